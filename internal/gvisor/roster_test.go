package gvisor

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/gvisor/wire"
)

// host is a machine whose sandboxes a test starts and ends.
type host struct{ proc, state string }

func newHost(t *testing.T) host {
	t.Helper()
	return host{proc: t.TempDir(), state: filepath.Join(t.TempDir(), "gvisor.json")}
}

func (h host) run(t *testing.T, pid string, args ...string) {
	t.Helper()
	dir := filepath.Join(h.proc, pid)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cmdline"), []byte(strings.Join(args, "\x00")+"\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (h host) end(t *testing.T, pid string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(h.proc, pid)); err != nil {
		t.Fatal(err)
	}
}

func (h host) roster(t *testing.T) *Roster {
	t.Helper()
	r, err := OpenRoster(slog.New(slog.DiscardHandler), h.state, h.proc)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func orphans(r *Roster) (ids []string) {
	for _, s := range r.Orphans() {
		ids = append(ids, s.ID)
	}
	return ids
}

// TestOrphansAreNamed: after a restart, those are named that were connected and
// still run, again after the next restart, until they end or come back.
func TestOrphansAreNamed(t *testing.T) {
	h := newHost(t)
	h.run(t, "100", "runsc-sandbox", "--root=/run", "boot", "--bundle=/b", "stays")
	h.run(t, "200", "runsc-sandbox", "boot", "comes-back")
	h.run(t, "300", "runsc-sandbox", "boot", "ends")
	h.run(t, "400", "runsc-sandbox", "boot", "never-connected")
	h.run(t, "500", "bash", "left")

	roster := h.roster(t)
	if got := orphans(roster); got != nil {
		t.Fatalf("orphans %q of no run before", got)
	}
	r := start(t, func(r *Receiver) { r.opts.Roster = roster })
	for _, id := range []string{"stays", "comes-back", "ends", "left"} {
		s := connect(t, r)
		s.message(&wire.ContainerStart{ID: []byte(id)}, 0)
		eventually(t, "its name is known", func() bool {
			c := r.Connections()
			return c[len(c)-1].Sandbox == id
		})
		if id == "left" {
			s.Close()
			eventually(t, "it has left", func() bool { return r.Stats().Connections == 3 })
		}
	}
	r.stop()
	h.end(t, "300")

	second := h.roster(t)
	if diff := cmp.Diff([]string{"stays", "comes-back"}, orphans(second)); diff != "" {
		t.Fatalf("orphans (-want +got):\n%s", diff)
	}
	r = start(t, func(r *Receiver) { r.opts.Roster = second })
	connect(t, r).message(&wire.ContainerStart{ID: []byte("comes-back")}, 0)
	eventually(t, "one orphan is left", func() bool { return r.Stats().Orphans == 1 })
	r.stop()

	third := h.roster(t)
	if diff := cmp.Diff([]string{"stays", "comes-back"}, orphans(third)); diff != "" {
		t.Errorf("orphans after the second restart (-want +got):\n%s", diff)
	}
	h.end(t, "100")
	if err := third.check(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"comes-back"}, orphans(third)); diff != "" {
		t.Errorf("orphans after one has ended (-want +got):\n%s", diff)
	}
}

// TestRosterFaults: what cannot be read is an error; what cannot be checked stays.
func TestRosterFaults(t *testing.T) {
	h := newHost(t)
	if err := os.WriteFile(h.state, []byte(`[{"id":"x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenRoster(slog.New(slog.DiscardHandler), h.state, h.proc); err == nil {
		t.Error("half a file was read without an error")
	}
	if err := os.WriteFile(h.state, []byte(`[{"id":"x"}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := OpenRoster(slog.New(slog.DiscardHandler), h.state, filepath.Join(h.proc, "none"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"x"}, orphans(r)); diff != "" {
		t.Errorf("orphans of a machine that cannot be asked (-want +got):\n%s", diff)
	}
}

func TestRunningSandboxes(t *testing.T) {
	running, err := runningSandboxes(fstest.MapFS{
		"1/cmdline":       {Data: []byte("init\x00")},
		"2/cmdline":       {Data: nil}, // a kernel thread
		"30/cmdline":      {Data: []byte("runsc-sandbox\x00boot\x00--bundle=/b\x00abc\x00")},
		"31/cmdline":      {Data: []byte("runsc-gofer\x00gofer\x00abc\x00")},
		"32/cmdline":      {Data: []byte("runsc-sandbox\x00")},
		"4/status":        {Data: []byte("no cmdline")},
		"self/cmdline":    {Data: []byte("runsc-sandbox\x00boot\x00self\x00")},
		"sys/kernel/what": {Data: nil},
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]bool{"abc": true}, running); diff != "" {
		t.Errorf("sandboxes (-want +got):\n%s", diff)
	}
}

func TestPeerName(t *testing.T) {
	for _, test := range []struct {
		args          string
		peer, sandbox string
	}{
		{"/usr/bin/runsc --root /run/docker create --bundle /b abc", "runsc, uid 0, pid 7", "abc"},
		{"runsc-trace trace create --config s.json abc", "runsc-trace, uid 0, pid 7", "abc"},
		{"runsc --help", "runsc, uid 0, pid 7", ""},
		{"runsc", "runsc, uid 0, pid 7", ""},
		{"runsc create " + strings.Repeat("x", maxSandboxName), "runsc, uid 0, pid 7", strings.Repeat("x", maxSandboxName)},
		{"runsc create " + strings.Repeat("x", maxSandboxName+1), "runsc, uid 0, pid 7", ""},
		{"/bin/nc -U abc", "nc, uid 0, pid 7", ""},
		{"", "uid 0, pid 7", ""},
	} {
		peer, sandbox := peerName(&unix.Ucred{Pid: 7}, strings.Fields(test.args))
		if peer != test.peer || sandbox != test.sandbox {
			t.Errorf("%q is %q for %q, want %q for %q", test.args, peer, sandbox, test.peer, test.sandbox)
		}
	}
}

// TestRosterRemembersAtOnce: a receiver that is killed has told the file before.
func TestRosterRemembersAtOnce(t *testing.T) {
	h := newHost(t)
	h.run(t, "100", "runsc-sandbox", "boot", "abc")
	r := start(t, func(r *Receiver) { r.opts.Roster = h.roster(t) })
	before := time.Now()
	connect(t, r).message(&wire.ContainerStart{ID: []byte("abc")}, 0)
	eventually(t, "the file names the sandbox", func() bool {
		next := h.roster(t).Orphans()
		return len(next) == 1 && next[0].ID == "abc" && !next[0].Since.Before(before.Add(-time.Second))
	})
}
