package procfs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
)

// Capabilities is a set of Linux capabilities, bit n for capability number n.
type Capabilities uint64

// The capabilities that decide what a sensor may do.
const (
	CapDACReadSearch = 2
	CapNetAdmin      = 12
	CapSysPtrace     = 19
	CapSysAdmin      = 21
	CapSysResource   = 24
	CapPerfmon       = 38
	CapBPF           = 39
)

// Has reports whether capability number n is in the set.
func (c Capabilities) Has(n uint) bool { return c>>n&1 == 1 }

// SelfCapabilities reads the effective capabilities of this process.
func (f FS) SelfCapabilities() (Capabilities, error) {
	return parsed(filepath.Join(f.proc, "self", "status"), parseCapabilities)
}

func parseCapabilities(r io.Reader) (Capabilities, error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), "CapEff:"); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(text), 16, 64)
			return Capabilities(n), err
		}
	}
	return 0, errors.Join(lines.Err(), errors.New("no CapEff line"))
}

// Lockdown reads the kernel lockdown mode: "none", "integrity" or
// "confidentiality"; the last forbids reading kernel memory by BPF. Kernels
// without the feature, and mount namespaces without securityfs, give ErrNoData.
func (f FS) Lockdown() (string, error) {
	return parsed(filepath.Join(f.sys, "kernel", "security", "lockdown"), parseLockdown)
}

// parseLockdown picks the bracketed word of "none [integrity] confidentiality".
func parseLockdown(r io.Reader) (string, error) {
	text, err := parseText(r)
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(text, "[")
	mode, _, ok := strings.Cut(rest, "]")
	if !ok || mode == "" {
		return "", fmt.Errorf("%q: no mode in brackets", text)
	}
	return mode, nil
}

// Sysctl reads one number below /proc/sys, such as "kernel/pid_max".
func (f FS) Sysctl(name string) (uint64, error) {
	return parsed(filepath.Join(f.proc, "sys", name), parseNumber)
}

// KernelRelease reads the release of the running kernel, such as "6.1.0-18-amd64".
func (f FS) KernelRelease() (string, error) {
	return parsed(filepath.Join(f.proc, "sys", "kernel", "osrelease"), parseText)
}

// KernelVersion takes major and minor number from a release.
func KernelVersion(release string) (major, minor int, err error) {
	first, rest, ok := strings.Cut(release, ".")
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	major, err1 := strconv.Atoi(first)
	minor, err2 := strconv.Atoi(rest[:end])
	if !ok || err1 != nil || err2 != nil || major < 0 {
		return 0, 0, fmt.Errorf("parse kernel release %q: want major.minor", release)
	}
	return major, minor, nil
}

// KernelNumber is a release as the kernel numbers itself (KERNEL_VERSION):
// 5.10.165 is 330405. What comes after the third number is not in it, and a third
// number above 255 is 255.
func KernelNumber(release string) (uint32, error) {
	major, minor, err := KernelVersion(release)
	if err != nil {
		return 0, err
	}
	var patch int
	if third := strings.SplitN(release, ".", 3); len(third) == 3 {
		_, _ = fmt.Sscanf(third[2], "%d", &patch) // a release without one is its first
	}
	return uint32(major)<<16 | uint32(minor&0xff)<<8 | uint32(min(max(patch, 0), 255)), nil
}

// KernelDotted is a release without what a distribution adds to it: 5.10.165 of
// "5.10.165-143.735.amzn2.x86_64".
func KernelDotted(release string) string {
	end := strings.IndexFunc(release, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	if end < 0 {
		return release
	}
	return strings.TrimRight(release[:end], ".")
}

// BTF returns the path of the kernel's own type information.
func (f FS) BTF() string { return filepath.Join(f.sys, "kernel", "btf", "vmlinux") }
