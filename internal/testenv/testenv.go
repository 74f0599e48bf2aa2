// Package testenv decides what a test may ask of the machine. A test that
// needs more than the machine has skips with a reason; where SONDE_TEST_MUST=1
// (CI) such a skip is a failure, so that a green run cannot hide a test that
// never ran.
package testenv

import (
	"os"
	"os/exec"
	"testing"
)

// Must reports whether skipping is forbidden.
func Must() bool { return os.Getenv("SONDE_TEST_MUST") == "1" }

// Skip skips the test for the given reason, or fails it where skips are forbidden.
func Skip(tb testing.TB, reason string) {
	tb.Helper()
	if Must() {
		tb.Fatalf("SONDE_TEST_MUST=1 forbids this skip: %s", reason)
	}
	tb.Skip(reason)
}

// Root asks for effective user id 0.
func Root(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() != 0 {
		Skip(tb, "needs root")
	}
}

// File asks for a file of the machine, such as /sys/kernel/btf/vmlinux.
func File(tb testing.TB, path string) {
	tb.Helper()
	if _, err := os.Stat(path); err != nil {
		Skip(tb, "needs "+path+": "+err.Error())
	}
}

// Program asks for a program on the path and returns where it is.
func Program(tb testing.TB, name string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Skip(tb, "needs "+name+": "+err.Error())
	}
	return path
}
