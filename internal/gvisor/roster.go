package gvisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// orphanCheck is how often it is looked whether orphans still run.
const orphanCheck = time.Minute

// Sandbox is one sandbox as the roster remembers it.
type Sandbox struct {
	ID    string    `json:"id"`
	Since time.Time `json:"since"` // when it connected
}

// Roster remembers in a file which sandboxes are connected. A sandbox that was
// connected to the run before and still runs is an orphan: it has noticed that
// its monitor went away, drops what it would send, and never connects again by
// itself. Its methods may be called concurrently; those of a nil Roster do
// nothing.
type Roster struct {
	log     *slog.Logger
	path    string
	running func() (map[string]bool, error) // ids of the sandboxes of this machine
	changed chan struct{}

	mu      sync.Mutex
	present map[*Connection]Sandbox
	orphans []Sandbox
}

// OpenRoster reads what the run before has left in the file, which need not exist,
// and names the orphans. proc is where procfs is mounted.
func OpenRoster(log *slog.Logger, path, proc string) (*Roster, error) {
	r := &Roster{
		log: log, path: path, changed: make(chan struct{}, 1), present: map[*Connection]Sandbox{},
		running: func() (map[string]bool, error) { return runningSandboxes(os.DirFS(proc)) },
	}
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r, nil
	case err != nil:
		return nil, fmt.Errorf("read roster: %w", err)
	}
	if err := json.Unmarshal(text, &r.orphans); err != nil {
		return nil, fmt.Errorf("read roster %s: %w", path, err)
	}
	if err := r.check(); err != nil {
		log.Warn("cannot tell which sandboxes still run", "err", err)
	}
	for _, s := range r.orphans {
		log.Warn("sandbox will not connect again; runsc trace create --force gives it a new session", "sandbox", s.ID, "since", s.Since)
	}
	return r, nil
}

// Orphans lists the sandboxes that run unwatched, the oldest first.
func (r *Roster) Orphans() []Sandbox {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.orphans)
}

// connected notes a connection, again when it has got a name.
func (r *Roster) connected(c *Connection) {
	if r == nil {
		return
	}
	id := c.Sandbox()
	if id == "" {
		return
	}
	r.mu.Lock()
	r.present[c] = Sandbox{ID: id, Since: c.since}
	r.orphans = slices.DeleteFunc(r.orphans, func(s Sandbox) bool { return s.ID == id })
	r.mu.Unlock()
	r.signal()
}

// gone notes that a sandbox has ended its connection.
func (r *Roster) gone(c *Connection) {
	if r == nil {
		return
	}
	r.mu.Lock()
	delete(r.present, c)
	r.mu.Unlock()
	r.signal()
}

// signal wakes run up; one that is pending is enough.
func (r *Roster) signal() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// run writes the file after every change and at the end of ctx, and lets go of
// orphans that have ended.
func (r *Roster) run(ctx context.Context) {
	if r == nil {
		return
	}
	tick := time.NewTicker(orphanCheck)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			if err := r.check(); err != nil {
				r.log.Debug("cannot tell which sandboxes still run", "err", err)
			}
		case <-r.changed:
		}
		if err := r.save(); err != nil {
			r.log.Warn("sandboxes would not be named after a restart", "err", err)
		}
	}
}

// check drops the orphans that no longer run.
func (r *Roster) check() error {
	if len(r.Orphans()) == 0 {
		return nil
	}
	running, err := r.running()
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.orphans = slices.DeleteFunc(r.orphans, func(s Sandbox) bool { return !running[s.ID] })
	return nil
}

// save writes the file whole or not at all.
func (r *Roster) save() error {
	r.mu.Lock()
	all := slices.Clone(r.orphans)
	for _, s := range r.present {
		all = append(all, s)
	}
	r.mu.Unlock()
	slices.SortFunc(all, func(a, b Sandbox) int { return a.Since.Compare(b.Since) })
	text, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		return fmt.Errorf("write roster: %w", err)
	}
	next := r.path + ".new"
	if err := os.WriteFile(next, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write roster: %w", err)
	}
	return os.Rename(next, r.path)
}

// sandboxProgram is what a sandbox's process calls itself; the sandbox's id is
// its last argument.
const sandboxProgram = "runsc-sandbox"

// runningSandboxes finds the sandboxes of a machine in its procfs.
func runningSandboxes(proc fs.FS) (map[string]bool, error) {
	entries, err := fs.ReadDir(proc, ".")
	if err != nil {
		return nil, fmt.Errorf("list sandboxes: %w", err)
	}
	running := map[string]bool{}
	for _, e := range entries {
		if name := e.Name(); name[0] < '1' || name[0] > '9' {
			continue
		}
		if args := commandLine(proc, e.Name()); len(args) > 1 && args[0] == sandboxProgram {
			running[args[len(args)-1]] = true
		}
	}
	return running, nil
}

// commandLine returns the arguments of a process, nothing for one that is gone.
func commandLine(proc fs.FS, pid string) []string {
	text, err := fs.ReadFile(proc, pid+"/cmdline")
	if err != nil || len(text) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
}
