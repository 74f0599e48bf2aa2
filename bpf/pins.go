package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// The black box is pinned in a directory of its own. A map's pin is named after
// the map and the number of its layout, so a version of the sensor with another
// layout starts that map anew, goes on with the others, and clears the old one
// away. Raise the number with every change to what a map of oom.bpf.c holds.
// (BPF file systems allow no dots in names.)
const pinnedDir = "oom"

var pinnedLayouts = map[string]int{"totals": 1, "victims": 1, "last": 1, "sensors": 1, "endings": 1, "ends": 1}

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
	p := &pins{parent: parent, dir: filepath.Join(parent, pinnedDir)}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make pin directory: %w", err)
	}
	return p, nil
}

func (p *pins) mapPath(name string) string {
	return filepath.Join(p.dir, fmt.Sprintf("%s-v%d", name, pinnedLayouts[name]))
}

// linkPath names a link so that it comes before the maps: it is removed first.
func (p *pins) linkPath(tracepoint string) string {
	return filepath.Join(p.dir, "attached-"+tracepoint)
}

// load opens the maps of the earlier run that this version understands.
func (p *pins) load(spec *ebpf.CollectionSpec) map[string]*ebpf.Map {
	maps := map[string]*ebpf.Map{}
	for name := range pinnedLayouts {
		m, err := ebpf.LoadPinnedMap(p.mapPath(name), nil)
		if err != nil {
			continue
		}
		if spec.Maps[name].Compatible(m) != nil {
			m.Close()
			continue
		}
		maps[name] = m
	}
	return maps
}

// close lets go of maps that load opened; the object has its own references.
func (p *pins) close(maps map[string]*ebpf.Map) {
	for _, m := range maps {
		m.Close()
	}
}

// pin puts an attached object in the place of the earlier one. The links go last,
// each in one step: from then on the earlier program is detached.
func (p *pins) pin(o *object, tracepoints []string, reused map[string]*ebpf.Map) error {
	for name := range pinnedLayouts {
		if reused[name] != nil {
			continue
		}
		if err := remove(p.mapPath(name)); err != nil {
			return err
		}
		if err := o.coll.Maps[name].Pin(p.mapPath(name)); err != nil {
			return fmt.Errorf("pin map %s: %w", name, plainErrno(err))
		}
	}
	next := p.linkPath("next")
	if err := p.pinEnlist(o, next); err != nil {
		return err
	}
	for i, tracepoint := range tracepoints {
		if err := remove(next); err != nil {
			return err
		}
		if err := o.links[i].Pin(next); err != nil {
			return fmt.Errorf("pin link of %s: %w", tracepoint, plainErrno(err))
		}
		if err := os.Rename(next, p.linkPath(tracepoint)); err != nil {
			return fmt.Errorf("pin link of %s: %w", tracepoint, err)
		}
	}
	return p.removeOthers(tracepoints)
}

// pinEnlist leaves the next run a way to be known before it has loaded anything.
func (p *pins) pinEnlist(o *object, next string) error {
	if err := remove(next); err != nil {
		return err
	}
	if err := o.coll.Programs["enlist"].Pin(next); err != nil {
		return fmt.Errorf("pin program enlist: %w", plainErrno(err))
	}
	if err := os.Rename(next, p.enlistPath()); err != nil {
		return fmt.Errorf("pin program enlist: %w", err)
	}
	return nil
}

// enlistPath names the program after the layout of the map that it writes.
func (p *pins) enlistPath() string {
	return filepath.Join(p.dir, fmt.Sprintf("enlist-v%d", pinnedLayouts["sensors"]))
}

// Enlist makes this process the sensor as far as an earlier run has left the means
// to: it is known when it dies while it still loads. Where there are none, or of
// another layout only, it does nothing.
func Enlist(pinDir string) error {
	p := &pins{dir: filepath.Join(pinDir, pinnedDir)}
	prog, err := ebpf.LoadPinnedProgram(p.enlistPath(), nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open pinned program enlist: %w", plainErrno(err))
	}
	defer prog.Close()
	return runHere(prog)
}

// removeOthers removes what other versions have pinned.
func (p *pins) removeOthers(tracepoints []string) error {
	ours := []string{p.enlistPath()}
	for name := range pinnedLayouts {
		ours = append(ours, p.mapPath(name))
	}
	for _, tracepoint := range tracepoints {
		ours = append(ours, p.linkPath(tracepoint))
	}
	_, err := removePins(p.parent, ours)
	return err
}

// Pinned lists what the sensor has pinned in dir; nothing is fine.
func Pinned(dir string) ([]string, error) {
	pins, err := filepath.Glob(filepath.Join(dir, pinnedDir+"*", "*"))
	if err != nil {
		return nil, fmt.Errorf("list pins: %w", err)
	}
	return pins, nil
}

// RemovePins removes whatever the sensor has pinned in dir, whose programs are
// detached with that, and the directory itself. It returns what it removed.
func RemovePins(dir string) (removed []string, err error) {
	if removed, err = removePins(dir, nil); err != nil {
		return removed, err
	}
	switch err := os.Remove(dir); {
	case errors.Is(err, os.ErrNotExist):
		return removed, nil
	case err != nil:
		return removed, fmt.Errorf("remove pin directory: %w", err)
	}
	return append(removed, dir), nil
}

// removePins removes all pins but those to keep, and the directories left empty.
func removePins(parent string, keep []string) (removed []string, err error) {
	pins, err := Pinned(parent)
	if err != nil {
		return nil, err
	}
	for _, pin := range pins {
		if slices.Contains(keep, pin) {
			continue
		}
		if err := remove(pin); err != nil {
			return removed, err
		}
		removed = append(removed, pin)
	}
	dirs, err := filepath.Glob(filepath.Join(parent, pinnedDir+"*"))
	if err != nil {
		return removed, fmt.Errorf("list pins: %w", err)
	}
	for _, dir := range dirs {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			continue
		}
		if err := remove(dir); err != nil {
			return removed, err
		}
		removed = append(removed, dir)
	}
	return removed, nil
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
