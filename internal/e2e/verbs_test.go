package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/protobuf/encoding/protojson"
)

// verb runs a verb against the agent and returns its exit code and output.
func (a *agent) verb(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	cmd := exec.Command(path, append(args, "--run.dir="+a.dir)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// decodedVerb runs a verb with --json, which must succeed.
func (a *agent) decodedVerb(t *testing.T, into any, args ...string) {
	t.Helper()
	code, stdout, stderr := a.verb(t, append(args, "--json")...)
	if code != 0 {
		t.Fatalf("%v: exit code %d: %s", args, code, stderr)
	}
	if err := json.Unmarshal([]byte(stdout), into); err != nil {
		t.Fatalf("%v: %v: %s", args, err, stdout)
	}
}

// The verbs find the agent and tell of it what is true; when it has been killed they
// say so.
func TestVerbsAskTheAgent(t *testing.T) {
	a := startAgent(t, "--introspect.listen-address=127.0.0.1:0")
	var version struct{ Agent struct{ PID int } }
	if a.decodedVerb(t, &version, "version"); version.Agent.PID != a.cmd.Process.Pid {
		t.Errorf("version tells of pid %d, the agent is %d", version.Agent.PID, a.cmd.Process.Pid)
	}
	if code, stdout, stderr := a.verb(t, "status"); code != 0 || !strings.Contains(stdout, fmt.Sprintf("pid %d", a.cmd.Process.Pid)) {
		t.Errorf("status: exit code %d: %s%s", code, stdout, stderr)
	}
	a.checkStatistics(t)

	var actors []struct {
		PID, PPID int
		Exe       string
	}
	a.decodedVerb(t, &actors, "actors", "--container=host")
	seen := map[int]int{}
	for _, p := range actors {
		seen[p.PID] = p.PPID
	}
	if seen[os.Getpid()] != os.Getppid() || seen[a.cmd.Process.Pid] != os.Getpid() {
		t.Errorf("actors have this process below %d and the agent below %d", seen[os.Getpid()], seen[a.cmd.Process.Pid])
	}

	a.followsTree(t)

	var levels struct{ Targets map[string]string }
	if a.decodedVerb(t, &levels, "log-level", "bpf", "debug"); levels.Targets["bpf"] != "debug" || levels.Targets["exporter"] != "info" {
		t.Errorf("log levels after bpf was set to debug: %v", levels.Targets)
	}
	if err := a.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = a.cmd.Wait() // it was killed
	if code, _, stderr := a.verb(t, "status"); code != 30 || !strings.Contains(stderr, "was left behind by process") {
		t.Errorf("status of a killed agent: exit code %d: %s", code, stderr)
	}
}

// followsTree follows what this process has started, by way of a shell, with an argument
// that has a comma.
func (a *agent) followsTree(t *testing.T) {
	t.Helper()
	program := realPath(t, "/bin/true")
	ended := make(chan *tetragon.GetEventsResponse, 1)
	go func() {
		code, stdout, stderr := a.verb(t, "events", "--json", "--count=1", "--point=process/exec",
			fmt.Sprint("--tree=", os.Getpid()), "--container=host", "--binary="+program, "--argument=one,two")
		ev := &tetragon.GetEventsResponse{}
		if err := protojson.Unmarshal([]byte(stdout), ev); code != 0 || err != nil {
			t.Errorf("events: exit code %d, %v: %s%s", code, err, stdout, stderr)
		}
		ended <- ev
	}()
	var ev *tetragon.GetEventsResponse
	waitUntil(t, func() error {
		for _, other := range []string{"one", "one,two"} {
			if err := exec.Command("/bin/sh", "-c", program+" "+other+"; :").Run(); err != nil {
				return err
			}
		}
		select {
		case ev = <-ended:
			return nil
		default:
			return errors.New("the verb follows")
		}
	})
	if p := ev.GetProcessExec().GetProcess(); p.GetBinary() != program || p.GetArguments() != "one,two" {
		t.Errorf("followed %v", p)
	}
}

// checkStatistics brackets the verb's numbers with those of two scrapes.
func (a *agent) checkStatistics(t *testing.T) {
	t.Helper()
	var statistics struct {
		Pipeline struct {
			Points []struct {
				Point     string
				Attempted float64
			}
		}
	}
	before := a.families(t)
	a.decodedVerb(t, &statistics, "get-statistics")
	after := a.families(t)
	if len(statistics.Pipeline.Points) == 0 {
		t.Error("get-statistics tells of no point")
	}
	for _, p := range statistics.Pipeline.Points {
		low := sum(before, "sonde_events_attempted_total", "point="+p.Point)
		high := sum(after, "sonde_events_attempted_total", "point="+p.Point)
		if p.Attempted < low || p.Attempted > high {
			t.Errorf("%s: get-statistics says %v attempted, the scrapes around it %v and %v", p.Point, p.Attempted, low, high)
		}
	}
}
