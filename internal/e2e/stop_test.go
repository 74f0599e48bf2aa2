package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// kernelObject is a program, map or link of the kernel by its id.
type kernelObject struct {
	kind string // "prog", "map", "link"
	id   uint32
}

// exists asks the kernel for the object.
func (o kernelObject) exists() (bool, error) {
	var (
		err   error
		close = func() error { return nil }
	)
	switch o.kind {
	case "prog":
		var p *ebpf.Program
		if p, err = ebpf.NewProgramFromID(ebpf.ProgramID(o.id)); err == nil {
			close = p.Close
		}
	case "map":
		var m *ebpf.Map
		if m, err = ebpf.NewMapFromID(ebpf.MapID(o.id)); err == nil {
			close = m.Close
		}
	case "link":
		var l link.Link
		if l, err = link.NewFromID(link.ID(o.id)); err == nil {
			close = l.Close
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, errors.Join(err, close())
}

// held lists what a process holds of the kernel's eBPF objects.
func (a *agent) held(t *testing.T) map[kernelObject]bool {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", a.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	all := map[kernelObject]bool{}
	for _, file := range files {
		info, err := os.ReadFile(file)
		if err != nil {
			continue // closed meanwhile
		}
		for line := range bytes.Lines(info) {
			name, value, _ := bytes.Cut(line, []byte(":"))
			for _, kind := range []string{"prog", "map", "link"} {
				if string(name) != kind+"_id" {
					continue
				}
				if id, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 32); err == nil {
					all[kernelObject{kind, uint32(id)}] = true
				}
			}
		}
	}
	return all
}

// pinned lists what the pins of the agent keep alive: the black box, by design.
func (a *agent) pinned(t *testing.T) map[kernelObject]bool {
	t.Helper()
	all := map[kernelObject]bool{}
	err := filepath.WalkDir(a.pins, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if m, err := ebpf.LoadPinnedMap(path, nil); err == nil {
			defer m.Close()
			info, err := m.Info()
			if err != nil {
				return err
			}
			id, _ := info.ID()
			all[kernelObject{"map", uint32(id)}] = true
			return nil
		}
		if p, err := ebpf.LoadPinnedProgram(path, nil); err == nil {
			defer p.Close()
			info, err := p.Info()
			if err != nil {
				return err
			}
			id, _ := info.ID()
			return withMaps(id, all)
		}
		l, err := link.LoadPinnedLink(path, nil)
		if err != nil {
			return fmt.Errorf("%s is neither map, program nor link: %w", path, err)
		}
		defer l.Close()
		info, err := l.Info()
		if err != nil {
			return err
		}
		all[kernelObject{"link", uint32(info.ID)}] = true
		return withMaps(info.Program, all)
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// withMaps adds a program and the maps that it uses, which live as long as it does.
func withMaps(id ebpf.ProgramID, all map[kernelObject]bool) error {
	all[kernelObject{"prog", uint32(id)}] = true
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return err
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return err
	}
	maps, _ := info.MapIDs()
	for _, m := range maps {
		all[kernelObject{"map", uint32(m)}] = true
	}
	return nil
}

// Stopping is clean: exit code 0, no program, map or link is left but those of the
// black box, and nothing in the run directory.
func TestStopLeavesNothingBehind(t *testing.T) {
	a := startAgent(t)
	a.families(t)
	held := a.held(t)
	for _, kind := range []string{"prog", "map", "link"} {
		n := 0
		for o := range held {
			if o.kind == kind {
				n++
			}
		}
		if n < 5 {
			t.Errorf("the agent holds %d objects of kind %s: it is not looked at as it should", n, kind)
		}
	}
	if code := a.stop(t); code != 0 {
		t.Errorf("exit code %d after SIGTERM:\n%s", code, a.log)
	}
	pinned := a.pinned(t)
	for o := range held {
		if pinned[o] {
			continue
		}
		waitUntil(t, func() error { // the kernel frees in its own time
			exists, err := o.exists()
			if exists {
				err = fmt.Errorf("%s %d outlives the agent", o.kind, o.id)
			}
			return err
		})
	}
	left, err := os.ReadDir(a.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range left {
		if entry.Name() != "state" {
			t.Errorf("left behind in the run directory: %s", entry.Name())
		}
	}
}
