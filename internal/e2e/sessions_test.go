package e2e

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/protobuf/encoding/protojson"
)

// lines reads the events in a file of JSON lines.
func lines(t *testing.T, path string) (all []*tetragon.GetEventsResponse) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1] // the last line may be under way
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		ev := &tetragon.GetEventsResponse{}
		if err := protojson.Unmarshal(s.Bytes(), ev); err != nil {
			t.Fatalf("%v in %s", err, s.Text())
		}
		all = append(all, ev)
	}
	return all
}

// withSession runs the sensor with one session that writes JSON lines.
func withSession(t *testing.T, flags ...string) (a *agent, events string) {
	t.Helper()
	dir := t.TempDir()
	events, file := filepath.Join(dir, "events.json"), filepath.Join(dir, "sonde.yaml")
	config := `sessions: [{name: all, points: [{name: process/exec, optional_fields: [environment, binary_sha256]}, {name: process/exit}],
  sinks: [{name: jsonl, config: {path: ` + events + `}}]}]`
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return startAgent(t, append(flags, "--config.file="+file, "--events.dir="+dir)...), events
}

// realPath follows links, as the kernel does.
func realPath(t *testing.T, path string) string {
	t.Helper()
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.Fatal(err)
	}
	return real
}

// What a process did is told with who it was, and everything that was wanted arrives
// or is counted.
func TestSessionWritesWhatHappened(t *testing.T) {
	a, path := withSession(t)
	dir, shell, program := t.TempDir(), realPath(t, "/bin/sh"), realPath(t, "/bin/true")
	sh := exec.Command("/bin/sh", "-c", `/bin/true one "two words"; exit 3`)
	sh.Dir = dir
	if err := sh.Run(); sh.ProcessState.ExitCode() != 3 {
		t.Fatal(err)
	}
	var got []string
	for end := time.Now().Add(30 * time.Second); len(got) < 2 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		got = nil
		for _, ev := range lines(t, path) {
			x, end := ev.GetProcessExec(), ev.GetProcessExit()
			switch {
			case x.GetProcess().GetBinary() == program && x.GetProcess().GetCwd() == dir:
				if x.Parent.GetPid().GetValue() != uint32(sh.ProcessState.Pid()) {
					t.Errorf("the parent is %v, not %d", x.Parent, sh.ProcessState.Pid())
				}
				got = append(got, "exec "+x.Process.GetArguments())
			case end.GetProcess().GetPid().GetValue() == uint32(sh.ProcessState.Pid()) && end.GetStatus() == 3:
				got = append(got, "exit "+end.Process.GetBinary())
			}
		}
	}
	if want := []string{`exec one "two words"`, "exit " + shell}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	sleeper := realPath(t, "/bin/sleep")
	content, err := os.ReadFile(sleeper)
	if err != nil {
		t.Fatal(err)
	}
	digest := fmt.Sprintf("%x", sha256.Sum256(content))
	waitUntil(t, func() error {
		sleep := exec.Command(sleeper, "0.2") // time to look at its file
		sleep.Env = []string{"COLOUR=blue"}
		if err := sleep.Run(); err != nil {
			return err
		}
		told := slices.ContainsFunc(lines(t, path), func(ev *tetragon.GetEventsResponse) bool {
			p := ev.GetProcessExec().GetProcess()
			return p.GetBinary() == sleeper && ev.NodeLabels["sonde.sha256"] == digest && len(p.EnvironmentVariables) == 1 && p.EnvironmentVariables[0].Value == "blue"
		})
		if !told {
			return errors.New("no exec is told with its environment and the digest of its file")
		}
		return nil
	})
	f := a.families(t)
	if sum(f, "sonde_executable_digests_total", "result=known") == 0 {
		t.Error("no digest was known")
	}
	matched, delivered := sum(f, "sonde_events_matched_total"), sum(f, "sonde_events_delivered_total")
	if dropped, queued := sum(f, "sonde_events_dropped_total", "stage=sink")+sum(f, "sonde_events_dropped_total", "stage=session"), sum(f, "sonde_session_queue_length"); delivered == 0 || matched < delivered+dropped || matched > delivered+dropped+queued+100 {
		t.Errorf("matched %v, delivered %v, dropped %v, queued %v", matched, delivered, dropped, queued)
	}
	if sum(f, "sonde_sink_up", "sink=jsonl") != 1 {
		t.Error("the sink is not up")
	}
}

// Arguments that are not wanted leave the sensor by no way: neither those of events,
// nor those of processes that were there before.
func TestNoProcessArguments(t *testing.T) {
	const secret = "password-4711"
	before := exec.Command("/bin/sh", "-c", "read x", secret)
	in, err := before.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := before.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); before.Wait() })
	a, path := withSession(t, "--no-process-arguments")
	after := exec.Command("/bin/true", secret)
	after.Env = []string{"VARIABLE=" + secret}
	if err := after.Run(); err != nil {
		t.Fatal(err)
	}
	program := realPath(t, "/bin/true")
	seen := func() bool {
		return slices.ContainsFunc(lines(t, path), func(ev *tetragon.GetEventsResponse) bool {
			return ev.GetProcessExit().GetProcess().GetBinary() == program
		})
	}
	for end := time.Now().Add(30 * time.Second); !seen() && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	if !seen() {
		t.Error("the process is not in the events")
	}
	var processes any
	a.ask(t, "/state/processes?limit=100000", &processes)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for where, shown := range map[string]string{"events": string(text), "state": fmt.Sprint(processes), "log": a.log.String()} {
		if strings.Contains(shown, secret) {
			t.Errorf("the arguments are in the %s", where)
		}
	}
}
