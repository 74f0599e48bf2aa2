package testenv

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Tool returns the path of a program that tests run: "promtool", "prometheus", "pint",
// "vmalert", "victoria-metrics", "prometheus-pushgateway". What is not there yet is built or
// fetched now, once for this machine, which may take minutes; hack/tool.sh does it.
func Tool(tb testing.TB, name string) string {
	tb.Helper()
	output, err := exec.Command(filepath.Join(checkout(tb), "hack", "tool.sh"), name).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		tb.Fatalf("tool %s: %v\n%s", name, err, exit.Stderr)
	}
	if err != nil {
		tb.Fatalf("tool %s: %v", name, err)
	}
	return strings.TrimSpace(string(output))
}

// checkout returns the root of the source tree, in which every test runs.
func checkout(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "hack", "tool.sh")); err == nil {
			return dir
		}
	}
	tb.Fatal("not in the source tree: no hack/tool.sh above the working directory")
	return ""
}
