package procfs

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Version is the cgroup interface a controller is driven through.
type Version int

// The two interfaces. A hybrid machine uses both, controller by controller.
const (
	V1 Version = 1
	V2 Version = 2
)

// Cgroup is the directory of one controller of this process's own cgroup.
type Cgroup struct {
	Version Version
	Dir     string // as this process can open it
	top     string // the uppermost visible directory of the hierarchy
}

// membership is one line of /proc/<pid>/cgroup.
type membership struct {
	controllers []string // none on the v2 line
	path        string   // relative to the root of the cgroup namespace
}

// SelfCgroup finds the cgroup of this process that drives the named controller
// ("memory", "cpu", …). On a hybrid machine a controller that v1 has mounted is
// used through v1, because v2 cannot have it at the same time; everything else
// is v2. Without either the error is ErrNoData.
func (f FS) SelfCgroup(controller string) (Cgroup, error) {
	mounts, err := f.SelfMounts()
	if err != nil {
		return Cgroup{}, err
	}
	members, err := parsed(filepath.Join(f.proc, "self", "cgroup"), parseCgroup)
	if err != nil {
		return Cgroup{}, err
	}
	if path, ok := memberV1(members, controller); ok {
		cg, ok := f.locate(V1, path, mounts, func(m Mount) bool {
			return m.Type == "cgroup" && slices.Contains(m.Options, controller)
		})
		if ok {
			return cg, nil
		}
	}
	if path, ok := memberV2(members); ok {
		cg, ok := f.locate(V2, path, mounts, func(m Mount) bool { return m.Type == "cgroup2" })
		if ok {
			return cg, nil
		}
	}
	return Cgroup{}, fmt.Errorf("find cgroup of controller %s: %w", controller, ErrNoData)
}

// locate turns a path of /proc/self/cgroup into a directory below one of the
// mounts that match, the newest first. Where the path lies outside of all that
// is mounted (a container on v1 without a cgroup namespace has the host's path,
// but only its own cgroup is mounted), the mount point itself is our cgroup.
func (f FS) locate(v Version, path string, mounts []Mount, match func(Mount) bool) (cg Cgroup, ok bool) {
	for _, m := range slices.Backward(mounts) {
		if !match(m) {
			continue
		}
		top := below(f.root, m.Point)
		if dir := inside(m, path, top); dir != "" {
			return Cgroup{Version: v, Dir: dir, top: top}, true
		}
		if !ok {
			cg, ok = Cgroup{Version: v, Dir: top, top: top}, true
		}
	}
	return cg, ok
}

// inside returns the directory of path below a mount that is visible at top, or
// "". A mount whose root is above the root of the cgroup namespace ("/../..", a
// host's hierarchy shown to a container) shows it under an unknown name.
func inside(m Mount, path, top string) string {
	rel, err := filepath.Rel(m.Root, path)
	if err != nil || above(m.Root) || above("/"+rel) {
		return ""
	}
	dir := below(top, rel)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return ""
	}
	return dir
}

func above(path string) bool { return path == "/.." || strings.HasPrefix(path, "/../") }

func memberV1(members []membership, controller string) (string, bool) {
	for _, m := range members {
		if slices.Contains(m.controllers, controller) {
			return m.path, true
		}
	}
	return "", false
}

func memberV2(members []membership) (string, bool) {
	for _, m := range members {
		if len(m.controllers) == 0 {
			return m.path, true
		}
	}
	return "", false
}

// parseCgroup reads lines of the form "4:memory:/a/b" (v1) and "0::/a/b" (v2).
func parseCgroup(r io.Reader) ([]membership, error) {
	var members []membership
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if lines.Text() == "" {
			continue
		}
		parts := strings.SplitN(lines.Text(), ":", 3)
		if len(parts) != 3 || !strings.HasPrefix(parts[2], "/") {
			return nil, fmt.Errorf("cgroup line %q: want id:controllers:/path", lines.Text())
		}
		m := membership{path: strings.TrimSuffix(parts[2], " (deleted)")}
		if parts[1] != "" {
			m.controllers = strings.Split(parts[1], ",")
		}
		members = append(members, m)
	}
	return members, lines.Err()
}

// Hierarchy is a mounted cgroup v2 hierarchy.
type Hierarchy struct {
	Dir string
	// Host says that Dir is the root of the whole machine's hierarchy, not of a
	// cgroup namespace: only the true root has no cgroup.type file.
	Host bool
}

// CgroupV2 lists the cgroup v2 hierarchies that can be opened: first the
// candidates given (a configured directory, a host's root seen in a container),
// then the mounts of this process. Those that show the whole machine come first.
func (f FS) CgroupV2(candidates ...string) ([]Hierarchy, error) {
	mounts, err := f.SelfMounts()
	if err != nil {
		return nil, err
	}
	for _, m := range slices.Backward(mounts) {
		if m.Type == "cgroup2" {
			candidates = append(candidates, below(f.root, m.Point))
		}
	}
	var host, other []Hierarchy
	seen := map[string]bool{"": true}
	for _, dir := range candidates {
		if seen[dir] || !exists(filepath.Join(dir, "cgroup.controllers")) {
			continue
		}
		seen[dir] = true
		if exists(filepath.Join(dir, "cgroup.type")) {
			other = append(other, Hierarchy{Dir: dir})
		} else {
			host = append(host, Hierarchy{Dir: dir, Host: true})
		}
	}
	return append(host, other...), nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
