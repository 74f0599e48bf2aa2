package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// The pins of the oom probe lie in a directory of their own, which is named
// after the layout of the maps: a version of the sensor with another layout
// starts to count anew and clears the old directory away. Raise the number with
// every change to a map in oom.bpf.c. (BPF file systems allow no dots in names.)
const (
	oomPins   = "oom-v"
	oomLayout = oomPins + "1"
)

// pins is the directory in which the oom probe outlives the agent.
type pins struct {
	parent, dir string
}

// openPins makes the directory; nil without an error means that none is wanted.
func openPins(parent string) (*pins, error) {
	if parent == "" {
		return nil, nil
	}
	if err := EnsureBPFFS(parent); err != nil {
		return nil, err
	}
	p := &pins{parent: parent, dir: filepath.Join(parent, oomLayout)}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make pin directory: %w", err)
	}
	return p, nil
}

func (p *pins) path(name string) string { return filepath.Join(p.dir, name) }

// The file of the link, and the one it is pinned to before it replaces that.
const (
	linkPin     = "link"
	linkNextPin = "link-next"
)

// load opens the maps of the earlier run, all of them or none.
func (p *pins) load(spec *ebpf.CollectionSpec) map[string]*ebpf.Map {
	maps := map[string]*ebpf.Map{}
	for name, ms := range spec.Maps {
		if strings.HasPrefix(name, ".") {
			continue
		}
		m, err := ebpf.LoadPinnedMap(p.path(name), nil)
		if err == nil {
			maps[name] = m
			err = ms.Compatible(m)
		}
		if err != nil {
			p.close(maps)
			return nil
		}
	}
	return maps
}

// close lets go of maps that load opened; the object has its own references.
func (p *pins) close(maps map[string]*ebpf.Map) {
	for _, m := range maps {
		m.Close()
	}
}

// pin puts an attached object in the place of the earlier one. The link goes
// last and in one step: from then on the earlier program is detached.
func (p *pins) pin(o *object, fresh bool) error {
	if fresh {
		for _, name := range o.own {
			if err := remove(p.path(name)); err != nil {
				return err
			}
			if err := o.coll.Maps[name].Pin(p.path(name)); err != nil {
				return fmt.Errorf("pin map %s: %w", name, plainErrno(err))
			}
		}
	}
	if err := remove(p.path(linkNextPin)); err != nil {
		return err
	}
	if err := o.links[0].Pin(p.path(linkNextPin)); err != nil {
		return fmt.Errorf("pin link: %w", plainErrno(err))
	}
	if err := os.Rename(p.path(linkNextPin), p.path(linkPin)); err != nil {
		return fmt.Errorf("pin link: %w", err)
	}
	return removePins(p.parent, p.dir)
}

// RemovePins removes whatever the sensor has pinned in dir, whose programs are
// detached with that, and the directory itself. One that is not there is fine.
func RemovePins(dir string) error {
	if err := removePins(dir, ""); err != nil {
		return err
	}
	return remove(dir)
}

// removePins removes the directories of all layouts but one. Only files of ours
// are touched: the links first, so that no program counts into maps that are gone.
func removePins(parent, except string) error {
	dirs, err := filepath.Glob(filepath.Join(parent, oomPins+"*"))
	if err != nil {
		return fmt.Errorf("list pins: %w", err)
	}
	for _, dir := range dirs {
		if dir == except {
			continue
		}
		for _, name := range []string{linkPin, linkNextPin} {
			if err := remove(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
		files, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("list pins: %w", err)
		}
		for _, f := range files {
			if err := remove(filepath.Join(dir, f.Name())); err != nil {
				return err
			}
		}
		if err := remove(dir); err != nil {
			return err
		}
	}
	return nil
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove pin: %w", err)
	}
	return nil
}

// EnsureBPFFS makes sure that dir is, or can be made, inside a BPF file system:
// where there is none, it mounts one on dir's parent, if that is empty.
func EnsureBPFFS(dir string) error {
	at := filepath.Clean(dir)
	for ; at != "/" && at != "."; at = filepath.Dir(at) {
		var fs unix.Statfs_t
		err := unix.Statfs(at, &fs)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look at %s: %w", at, err)
		}
		if fs.Type == unix.BPF_FS_MAGIC {
			return nil
		}
		break
	}
	return mountBPFFS(filepath.Dir(filepath.Clean(dir)))
}

func mountBPFFS(at string) error {
	if err := os.MkdirAll(at, 0o700); err != nil {
		return fmt.Errorf("mount bpffs: %w", err)
	}
	entries, err := os.ReadDir(at)
	if err != nil {
		return fmt.Errorf("mount bpffs: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("mount bpffs on %s: %w", at, unix.ENOTEMPTY)
	}
	if err := unix.Mount("bpf", at, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_RELATIME, "mode=0700"); err != nil {
		return fmt.Errorf("mount bpffs on %s: %w", at, err)
	}
	return nil
}
