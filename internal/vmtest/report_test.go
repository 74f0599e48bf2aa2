package vmtest

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const passed = "@@INIT 6.1.0-56-cloud-amd64 2.13\r\n" +
	"@@SUITE bpf\r\n" +
	"=== RUN   TestA\r\n" +
	"=== RUN   TestA/sub\r\n" +
	"--- PASS: TestA (0.01s)\r\n" +
	"    --- PASS: TestA/sub (0.01s)\r\n" +
	"--- SKIP: TestB (0.00s)\r\n" +
	"PASS\r\n" +
	"@@STATUS 0\r\n" +
	"@@EXIT 0\r\n"

func TestParseReport(t *testing.T) {
	got := ParseReport([]byte(passed))
	got.Suites[0].Output = ""
	want := Report{
		Release: "6.1.0-56-cloud-amd64",
		Boot:    2130 * time.Millisecond,
		Suites:  []SuiteReport{{Name: "bpf", Passed: 1, Skipped: 1, Skips: []string{"TestB"}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestUnpassed(t *testing.T) {
	s := SuiteReport{Output: "=== RUN   TestA\n=== RUN   TestA/x\n--- PASS: TestA (0.01s)\n    --- PASS: TestA/x (0.00s)\n" +
		"=== RUN   TestB\n    b_test.go:1: wrong\n--- FAIL: TestB (0.01s)\n=== RUN   TestC\n--- SKIP: TestC (0.00s)\n" +
		"=== RUN   TestD\n--- PASS: TestD (0.00s)\nFAIL\n"}
	want := "=== RUN   TestB\n    b_test.go:1: wrong\n--- FAIL: TestB (0.01s)\n=== RUN   TestD\n--- PASS: TestD (0.00s)\nFAIL\n"
	if diff := cmp.Diff(want, s.Unpassed()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestSlow(t *testing.T) {
	r := ParseReport([]byte(strings.Replace(passed, "TestA (0.01s)", "TestA (12.50s)", 1)))
	if diff := cmp.Diff([]string{"TestA 12.5s"}, r.Slow(10*time.Second)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestFault(t *testing.T) {
	for _, test := range []struct {
		name, cut, put string
		want           string // part of the fault
	}{
		{"passed", "", "", ""},
		{"no boot", "@@INIT", "", "did not boot"},
		{"died in a test", "@@STATUS 0\r\n@@EXIT 0\r\n", "", "died in bpf"},
		{"out of time", "PASS\r\n@@STATUS 0", "panic: test timed out after 4m0s\r\n\trunning tests:\r\n\t\tTestC/sub (3m2s)\r\n@@STATUS 2", "out of time in TestC/sub"},
		{"failed", "--- SKIP: TestB", "--- FAIL: TestB", "1 tests failed"},
		{"bad status", "@@STATUS 0", "@@STATUS 2", "status 2"},
		{"nothing passed", "--- PASS: TestA (", "--- SKIP: TestA (", "no test passed"},
		{"no last word", "@@EXIT 0", "", "status 125"},
		{"garbled", "@@EXIT 0", "@@EXIT 0x", "status 125"},
		{"no suite", "@@SUITE bpf", "", "ended with"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := ParseReport([]byte(strings.Replace(passed, test.cut, test.put, 1)))
			if got := r.Fault(); (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
				t.Errorf("Fault = %q, want %q", got, test.want)
			}
		})
	}
}

// TestCpio unpacks what cpioWriter writes with the program the format is named after.
func TestCpio(t *testing.T) {
	var archive bytes.Buffer
	w := &cpioWriter{w: &archive}
	w.add("dir", modeDir, nil)
	w.add("dir/file", modeFile, []byte("hello"))
	w.add("dir/link", modeLink, []byte("file"))
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("no busybox to unpack it; the guests of TestKernels do")
	}
	unpack := exec.Command(busybox, "cpio", "-i")
	unpack.Dir, unpack.Stdin = t.TempDir(), &archive
	if output, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	list := exec.Command("cat", "dir/link", "dir/file")
	list.Dir = unpack.Dir
	if output, err := list.CombinedOutput(); err != nil || string(output) != "hellohello" {
		t.Errorf("unpacked %q, %v", output, err)
	}
}
