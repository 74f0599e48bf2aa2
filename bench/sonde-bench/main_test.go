package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sonde-ebpf/sonde/bench/compare"
	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// bench runs the command line.
func bench(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, log bytes.Buffer
	code = run(t.Context(), args, &out, &log)
	return code, out.String(), log.String()
}

// expect runs the command line and asks for an exit code.
func expect(t *testing.T, want int, args ...string) (stdout string) {
	t.Helper()
	code, stdout, stderr := bench(t, args...)
	if code != want {
		t.Fatalf("sonde-bench %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), code, want, stdout, stderr)
	}
	return stdout
}

// recorded is a real run: base and head are the same build, heavy holds 20 MiB more.
const recorded = "testdata/recorded.json"

// What the workflow does after it has measured: the verdict, the comment, the trend.
func TestRecorded(t *testing.T) {
	dir := t.TempDir()
	comment, trend := filepath.Join(dir, "comment.md"), filepath.Join(dir, "trend.json")

	expect(t, exitOK, "trend", recorded, trend)
	if out := expect(t, exitOK, "compare", recorded, "--markdown", comment, "--trend", trend); !strings.Contains(out, "No regression.") {
		t.Errorf("plain repeat:\n%s", out)
	}
	text, err := os.ReadFile(comment)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{compare.Marker, "| processor |", "The last 1 times on main"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in the comment:\n%s", want, text)
		}
	}

	out := expect(t, exitRegression, "compare", recorded, "--head", "heavy", "--markdown", comment)
	for _, resource := range []string{"resident memory", "peak memory"} {
		if !strings.Contains(out, resource+" under") {
			t.Errorf("%s is not among the regressions:\n%s", resource, out)
		}
	}
	if text, err = os.ReadFile(comment); err != nil || !strings.Contains(string(text), "are regressions") {
		t.Errorf("comment of a regression: %v\n%s", err, text)
	}
}

func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, exitOK, "--help")
	expect(t, exitUsage)
	expect(t, exitFailed, "load", "nonsense")
	expect(t, exitFailed, "load", "opens@many")
	expect(t, exitUsage, "load")
	expect(t, exitFailed, "run", "--build", "nonsense")
	expect(t, exitInput, "compare", empty)
	expect(t, exitInput, "compare", filepath.Join(dir, "absent"))
	expect(t, exitInput, "compare", recorded, "--head", "absent")
	expect(t, exitInput, "trend", empty, filepath.Join(dir, "trend"))
	if out := expect(t, exitOK, "load", "opens@100", "--duration", "200ms"); !strings.Contains(out, `"done":`) {
		t.Errorf("load says %q", out)
	}
}

// A signal ends a load at once, and that is no failure.
func TestLoadEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(200*time.Millisecond, cancel)
	var out, log bytes.Buffer
	if code := run(ctx, []string{"load", "opens", "--duration", "1h"}, &out, &log); code != exitOK || out.Len() == 0 {
		t.Errorf("exit code %d\n%s%s", code, &out, &log)
	}
}

// built builds a command of this module.
func built(t *testing.T, dir, name, path string) string {
	t.Helper()
	binary := filepath.Join(dir, name)
	cmd := exec.Command("go", "build", "-o", binary, path)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	return binary
}

// measured measures a build against itself, and against itself with a burden.
func measured(t *testing.T, burden string, flags ...string) (results string) {
	t.Helper()
	testenv.Root(t)
	dir := t.TempDir()
	sonde, self := built(t, dir, "sonde", "../../cmd/sonde"), built(t, dir, "sonde-bench", ".")
	results = filepath.Join(dir, "results.json")
	expect(t, exitOK, append([]string{
		"run", "-o", results, "--build", "base=" + sonde, "--build", "head=" + sonde,
		"--build", "heavy=" + self + " burden " + burden + " -- " + sonde,
	}, flags...)...)
	return results
}

// A real sensor: what it is made to take more is found, and a plain repeat is not blamed.
func TestMeasured(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	results := measured(t, "--cpu=25 --memory=40MiB", "--runs=5", "--warm-up=100ms", "--duration=900ms")
	expect(t, exitOK, "compare", results)
	expect(t, exitRegression, "compare", results, "--head", "heavy")
}

// The differences that must be found, each of ten times, and none that is not there.
func TestSoakMeasured(t *testing.T) {
	if os.Getenv("SONDE_SOAK") == "" {
		t.Skip("takes an hour and the whole machine: make soak")
	}
	for range 10 {
		for _, burden := range []string{"--cpu=5", "--memory=20MiB"} {
			results := measured(t, burden, "--runs=10", "--warm-up=500ms", "--duration=4s")
			expect(t, exitOK, "compare", results)
			expect(t, exitRegression, "compare", results, "--head", "heavy")
		}
	}
}
