package e2e

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// A client of Tetragon's API finds the sensor by the info file, and is told of a
// command what a client of Tetragon would be.
func TestTetragonClient(t *testing.T) {
	a := startAgent(t)
	address := "unix://" + filepath.Join(a.dir, "tetragon.sock")
	c, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	client := tetragon.NewFineGuidanceSensorsClient(c)
	ctx, done := context.WithTimeout(t.Context(), 30*time.Second)
	defer done()
	if h, err := client.GetHealth(ctx, &tetragon.GetHealthStatusRequest{}); err != nil || len(h.HealthStatus) != 1 {
		t.Errorf("health: %v, %v", h, err)
	}
	infoFile := filepath.Join(a.dir, "tetragon", "info.json") // it is there when the first call is answered
	if text, err := os.ReadFile(infoFile); err != nil || !strings.Contains(string(text), `"server_address":"`+address+`"`) {
		t.Errorf("info file %q, %v", text, err)
	}
	stream, err := client.GetEvents(ctx, &tetragon.GetEventsRequest{AllowList: []*tetragon.Filter{{ArgumentsRegex: []string{"^one \"two words\""}}}})
	if err == nil {
		_, err = stream.Header() // nothing is missed from here on
	}
	if err != nil {
		t.Fatal(err)
	}

	began := time.Now()
	cmd := exec.Command("/bin/sleep", "one", "two words")
	cmd.Dir = t.TempDir()
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 1 { // those are no times
		t.Fatal(err)
	}
	ended := time.Now()
	var started time.Time
	check := func(what string, process, parent *tetragon.Process, at time.Time) {
		t.Helper()
		if process.GetPid().GetValue() != uint32(cmd.Process.Pid) || !strings.HasSuffix(process.GetBinary(), "/bin/sleep") ||
			process.GetCwd() != cmd.Dir || process.GetFlags() != "execve" || process.GetExecId() == "" {
			t.Errorf("%s: process %v", what, process)
		}
		if parent.GetPid().GetValue() != uint32(os.Getpid()) || parent.GetExecId() != process.GetParentExecId() {
			t.Errorf("%s: parent %v of %v", what, parent, process)
		}
		if slack := 50 * time.Millisecond; at.Before(began.Add(-slack)) || at.After(ended.Add(slack)) { // two clocks
			t.Errorf("%s at %v, not between %v and %v", what, at, began, ended)
		}
	}
	for _, what := range []string{"exec", "exit"} {
		r, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		x, e := r.GetProcessExec(), r.GetProcessExit()
		switch {
		case what == "exec" && x != nil:
			check(what, x.Process, x.Parent, r.Time.AsTime())
			started = x.Process.StartTime.AsTime()
		case what == "exit" && e != nil:
			check(what, e.Process, e.Parent, e.Time.AsTime())
			if e.Status != 1 || !e.Process.StartTime.AsTime().Equal(started) || e.Time.AsTime().Before(started) {
				t.Errorf("exit %v of a process started at %v", e, started)
			}
		default:
			t.Fatalf("%s: %v", what, r)
		}
	}
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err == nil {
		t.Error("the stream goes on")
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(infoFile); errors.Is(err, fs.ErrNotExist) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the info file stays")
		}
	}
}
