package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// kernelObjects counts the eBPF programs, maps and links that this process holds: as
// descriptors, which is the only way to hold what is not pinned.
func kernelObjects(t *testing.T) (n int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		target, err := os.Readlink(filepath.Join("/proc/self/fd", fd.Name()))
		if err == nil && strings.HasPrefix(target, "anon_inode:bpf") {
			n++
		}
	}
	return n
}

// TestFailedStartLeavesNothing lets the start fail after each of the steps that open
// something, and wants all of it closed again: no program, map or link of this
// process, nothing in the run directory, and no pin but the black box's.
func TestFailedStartLeavesNothing(t *testing.T) {
	testenv.Root(t)
	testenv.File(t, "/sys/kernel/btf/vmlinux")
	taken := filepath.Join(t.TempDir(), "taken")
	if err := os.WriteFile(taken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		flags []string
		file  string // that is a directory, in the run directory
		code  exitCode
		says  string
	}{
		"second listener": {flags: []string{"--web.listen-address=unix://" + taken}, code: exitListen, says: "address already in use"},
		"introspection":   {flags: []string{"--introspect.listen-address=unix://" + taken}, code: exitListen, says: "address already in use"},
		"announcement":    {file: "sonde.json", code: exitUnexpected, says: "write discovery file"},
	} {
		t.Run(name, func(t *testing.T) {
			run, pins := t.TempDir(), filepath.Join("/sys/fs/bpf", "sonde-failed-start-"+filepath.Base(t.TempDir()))
			defer os.RemoveAll(pins)
			if c.file != "" {
				if err := os.Mkdir(filepath.Join(run, c.file), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			before := kernelObjects(t)
			code, log := start(t.Context(), t, run, pins, c.flags...)
			if code != int(c.code) || !strings.Contains(log, c.says) {
				t.Errorf("exit code %d, want %d and %q:\n%s", code, c.code, c.says, log)
			}
			wantNothingLeft(t, run, pins, before, c.file)
		})
	}
}

// TestStoppedStartLeavesNothing: a signal during the start is a stop like any other.
func TestStoppedStartLeavesNothing(t *testing.T) {
	testenv.Root(t)
	testenv.File(t, "/sys/kernel/btf/vmlinux")
	run, pins := t.TempDir(), "/sys/fs/bpf/sonde-stopped-start"
	defer os.RemoveAll(pins)
	before := kernelObjects(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if code, log := start(ctx, t, run, pins); code != 0 || strings.Contains(log, "syscalls") {
		t.Errorf("exit code %d, want 0 and no probe:\n%s", code, log)
	}
	wantNothingLeft(t, run, pins, before, "")
}

// start runs the agent in this process until it ends by itself.
func start(ctx context.Context, t *testing.T, run, pins string, flags ...string) (code int, log string) {
	t.Helper()
	c := newCLI(io.Discard)
	args := append([]string{
		"run", "--web.listen-address=unix://" + filepath.Join(run, "metrics.sock"), "--run.dir=" + run,
		"--state.dir=" + filepath.Join(t.TempDir(), "state"), "--bpf.pin-dir=" + pins, "--run.termination-file=",
	}, flags...)
	if _, err := c.app.Parse(args); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	code = runAgent(ctx, c.run, &out)
	return code, out.String()
}

func wantNothingLeft(t *testing.T, run, pins string, objects int, except string) {
	t.Helper()
	if after := kernelObjects(t); after != objects {
		t.Errorf("%d programs, maps and links held before, %d after", objects, after)
	}
	left, err := os.ReadDir(run)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		if f.Name() != except {
			t.Errorf("left in the run directory: %s", f.Name())
		}
	}
	pinned, err := os.ReadDir(pins)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, f := range pinned {
		if !strings.HasPrefix(f.Name(), "oom") {
			t.Errorf("left pinned: %s", f.Name())
		}
	}
}
