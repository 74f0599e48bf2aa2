// Package vmtest runs test binaries in other Linux kernels: Debian's, booted by
// qemu in software. It has no other user than its own test, TestKernels, which
// "go test ./internal/vmtest" runs.
//
// One run is: fetch a kernel (hack/kernel.sh), compile the tests statically,
// pack them with busybox into an initramfs, boot, read the serial ports. The
// first port is the kernel's console, the second carries what the tests print
// and the verdict. A guest that says no verdict, because it crashed or hangs,
// has failed.
//
// The emulated processor is one thread of the host's (thread=single): with more,
// patching kernel code while another CPU runs it kills the guest, and attaching
// an eBPF program does just that. KVM is not used, so that every machine, a
// container or a cloud VM included, runs the same test.
package vmtest

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// A Kernel is one that Debian ships.
type Kernel struct {
	Name     string // of the series, for people: "6.1"
	Suite    string // Debian suite
	Package  string // metapackage: the newest of its series
	Required bool   // its absence from the mirror is a failure
	// Tests picks the tests of package bpf, a regular expression; "" is all.
	Tests string
}

// Kernels returns what the sensor is tested on, oldest first. The required ones
// are in Debian 12's own archive; the others may go with their suites.
func Kernels() []Kernel {
	return []Kernel{
		// 5.10 has no atomic exchange (5.12), which most probes need: it must refuse
		// them with a reason and run the rest.
		{Name: "5.10", Suite: "bullseye-security", Package: "linux-image-cloud-amd64", Tests: "TestProbesOfThisKernel|TestCanary|TestFullRing"},
		{Name: "6.1", Suite: "bookworm-security", Package: "linux-image-cloud-amd64", Required: true},
		{Name: "6.12", Suite: "bookworm-security", Package: "linux-image-6.12-cloud-amd64", Required: true},
		{Name: "7.2", Suite: "trixie-backports", Package: "linux-image-cloud-amd64"},
	}
}

// Fetch returns the directory with the kernel's files, see hack/kernel.sh of the
// checkout at root. The error says in one sentence why the kernel is not to be had.
func (k Kernel) Fetch(ctx context.Context, root string) (string, error) {
	output, err := exec.CommandContext(ctx, filepath.Join(root, "hack", "kernel.sh"), k.Suite, k.Package).Output()
	if err == nil {
		return strings.TrimSpace(string(output)), nil
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		lines := strings.Split(strings.TrimSpace(string(exit.Stderr)), "\n")
		return "", errors.New(strings.TrimPrefix(lines[len(lines)-1], "sonde: "))
	}
	return "", fmt.Errorf("fetch kernel %s: %w", k.Name, err)
}
