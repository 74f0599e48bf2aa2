package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sonde-ebpf/sonde/internal/gvisor/wire"
)

// shownGVisor is what /state/pipeline shows of sandboxes.
type shownGVisor struct {
	GVisor struct {
		Connections []struct {
			Sandbox, Peer     string
			Messages, Dropped uint64
			Silent            bool
		}
		Orphans []struct{ Sandbox string }
	}
}

// A sandbox reports to the sensor, which tells of its events in the same sessions as
// of the kernel's, and after a restart names it. And what the kernel tells reaches a
// monitor that was written for gVisor.
func TestGVisorBothWays(t *testing.T) {
	dir := t.TempDir()
	monitor := listenFor(t, filepath.Join(dir, "monitor.sock"))
	config := filepath.Join(dir, "sonde.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, `sessions:
  - {name: ends, points: [{name: process/exit, filter: {comm: [in-sandbox]}}], sinks: [{name: "null"}]}
  - {name: starts, points: [{name: process/exec, context_fields: [process_name]}], sinks: [{name: remote, config: {endpoint: %s}}]}
`, monitor.Addr()), 0o600); err != nil {
		t.Fatal(err)
	}
	accepted := make(chan *net.UnixConn, 1)
	go func() {
		if c, err := monitor.AcceptUnix(); err == nil {
			_, _ = c.Write(wire.AppendHandshake(nil)) // the sensor says if it was not good
			accepted <- c
		}
	}()
	flags := []string{"--config.file=" + config, "--gvisor.endpoint=" + filepath.Join(dir, "gvisor.sock")}
	a := startAgent(t, flags...)

	receiveSandbox(t, a, filepath.Join(dir, "gvisor.sock"))
	readExec(t, <-accepted)

	sandbox := act(t, "wait", "boot", "e2e-sandbox")
	sandbox.Args[0] = "runsc-sandbox"
	alive, err := sandbox.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sandbox.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { alive.Close(); sandbox.Wait() }()
	a.stop(t)
	b := a.again(t, "", flags[1]) // the monitor is not asked a second time
	var shown shownGVisor
	b.ask(t, "/state/pipeline", &shown)
	if o := shown.GVisor.Orphans; len(o) != 1 || o[0].Sandbox != "e2e-sandbox" {
		t.Errorf("orphans %+v", o)
	}
	if n := sum(b.families(t), "sonde_gvisor_orphaned_sandboxes"); n != 1 {
		t.Errorf("%v orphans counted", n)
	}
}

func listenFor(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// receiveSandbox plays a sandbox of ten processes, which stays connected.
func receiveSandbox(t *testing.T, a *agent, endpoint string) {
	t.Helper()
	const ends = 10
	c, err := net.Dial("unixpacket", endpoint)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	hello := make([]byte, 100)
	if _, err := c.Write(wire.AppendHandshake(nil)); err != nil {
		t.Fatal(err)
	}
	n, err := c.Read(hello)
	if err != nil || string(hello[:n]) != "\x08\x01" {
		t.Fatalf("handshake %x, %v", hello[:n], err)
	}
	var e wire.Encoder
	end := wire.ExitStatus{Origin: wire.Origin{HasContextData: true, ContextData: wire.Context{
		ThreadID: 7, ThreadGroupID: 7, ProcessName: []byte("in-sandbox"), ContainerID: []byte("e2e-sandbox"),
	}}}
	for range ends {
		if _, err := c.Write(e.Append(nil, &wire.SentryTaskExit{ExitStatus: end}, 4)); err != nil {
			t.Fatal(err)
		}
	}
	waitUntil(t, func() error {
		f := a.families(t)
		events, dropped := sum(f, "sonde_gvisor_events_total", "point=process/exit"), sum(f, "sonde_gvisor_dropped_total")
		delivered := sum(f, "sonde_events_delivered_total", "session=ends")
		if events != ends || dropped != 4 || delivered != ends || sum(f, "sonde_gvisor_messages_total") != ends {
			return fmt.Errorf("%v events, %v dropped, %v delivered", events, dropped, delivered)
		}
		return nil
	})
	var shown shownGVisor
	a.ask(t, "/state/pipeline", &shown)
	if s := shown.GVisor.Connections; len(s) != 1 || s[0].Sandbox != "e2e-sandbox" || s[0].Messages != ends || s[0].Dropped != 4 || s[0].Silent {
		t.Errorf("connections %+v", s)
	}
}

// readExec wants to be told of a program that it runs.
func readExec(t *testing.T, c *net.UnixConn) {
	t.Helper()
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command("/bin/true", "told to the monitor").Run(); err != nil {
		t.Fatal(err)
	}
	d, b := wire.NewDecoder(), make([]byte, wire.MaxMessage)
	if n, err := c.Read(b); err != nil || string(b[:n]) != "\x08\x01" {
		t.Fatalf("handshake %x, %v", b[:n], err)
	}
	for {
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		_, m, err := d.Decode(b[:n])
		if err != nil {
			t.Fatal(err)
		}
		start, ok := m.(*wire.SentryExec)
		if ok && slices.ContainsFunc(start.Argv, func(arg []byte) bool { return string(arg) == "told to the monitor" }) {
			if string(start.Execfn) != "/bin/true" || !strings.HasSuffix(string(start.BinaryPath), "/bin/true") || string(start.ContextData.ProcessName) != "true" || start.ContextData.ThreadID != 0 {
				t.Errorf("told of %s, %s as %s, thread %d", start.Execfn, start.BinaryPath, start.ContextData.ProcessName, start.ContextData.ThreadID)
			}
			return
		}
	}
}
