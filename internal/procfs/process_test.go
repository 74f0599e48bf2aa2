package procfs

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestProcessStat(t *testing.T) {
	for text, want := range map[string]ProcessStat{
		"42 (a b) c) (d) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21\n": {State: 'S', Start: 4711},
		"1 (\n) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 0":                     {State: 'Z'},
	} {
		if got, err := parseProcessStat(strings.NewReader(text)); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", ")", "1 (a) S 1 2 3", "1 (a) SS 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19", "1 (a) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 -1"} {
		if got, err := parseProcessStat(strings.NewReader(text)); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

// TestProcess reads this process and one that has ended and was not waited for.
func TestProcess(t *testing.T) {
	f := New(Options{})
	self, err := f.ProcessStat(uint32(os.Getpid()))
	if err != nil || self.Start == 0 || !strings.ContainsRune("RS", rune(self.State)) {
		t.Errorf("%+v, %v", self, err)
	}
	cmd := exec.Command("true")
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = output.Read(make([]byte, 1)) // until it ends
	if got, err := f.ProcessStat(uint32(cmd.Process.Pid)); err != nil || got.Start < self.Start {
		t.Errorf("a dead child: %+v, %v", got, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ProcessStat(uint32(cmd.Process.Pid)); !errors.Is(err, ErrNoData) {
		t.Errorf("a process that is gone: %v", err)
	}

	v2, v1, err := f.SelfCgroups()
	if err != nil || v2 == "" && len(v1) == 0 {
		t.Fatalf("%q, %q, %v", v2, v1, err)
	}
	againV2, againV1, err := f.ProcessCgroups(uint32(os.Getpid()))
	if diff := cmp.Diff(append(v1, v2), append(againV1, againV2)); err != nil || diff != "" {
		t.Errorf("by number: %v (-self +number):\n%s", err, diff)
	}
}
