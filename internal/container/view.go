package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/procfs"
)

// Blind says why the cgroups of the whole machine cannot be seen.
type Blind uint8

// The reasons. Each has a remedy of its own, which View.Hint spells out.
const (
	Seeing              Blind = iota
	NotMounted                // no cgroup file system anywhere
	PrivateNamespace          // only our own cgroups: we run in a cgroup namespace
	Subtree                   // only a part of the tree is mounted
	RootMissing               // the configured directory does not exist
	NotCgroupfs               // the configured directory is no cgroup file system
	RootDenied                // the configured directory may not be opened
	PrivatePIDNamespace       // v1 only, and /proc shows no foreign processes

	Blinds = int(PrivatePIDNamespace) + 1
)

var blindNames = [Blinds]string{
	"none", "not_mounted", "private_cgroup_namespace", "subtree", "missing", "not_cgroupfs", "denied", "private_pid_namespace",
}

// String returns the reason as a label spells it, "none" where there is none.
func (b Blind) String() string { return blindNames[b] }

// View is what this process can see of the machine's cgroups. It does not change
// while the process lives in the same namespaces.
type View struct {
	V2 string // directory of the v2 tree, empty if none is visible
	V1 string // directory of one v1 tree, empty if none is visible
	// V1Controller is the controller that V1 is the tree of, by which the kernel side
	// can tell its cgroups apart; empty if there is none.
	V1Controller string
	// HasV1 says that processes are in v1 trees, visible or not, so that the
	// cgroup id an event carries may not be the container's.
	HasV1  bool
	Reason Blind
	Hint   string // what to do about Reason

	root     uint64 // cgroup id of V2 itself
	complete bool   // what is not in V2 and V1 is nowhere
}

// Visible reports whether every container of the machine can be seen.
func (v *View) Visible() bool { return v.Reason == Seeing }

// usualRootfs is where a sensor that runs in a container usually finds the host's root.
const usualRootfs = "/host"

// HostRoots are the directories where the host's root may be mounted besides /: the
// one that is named, if any is, before the usual one.
func HostRoots(rootfs string) []string {
	switch rootfs = filepath.Clean(rootfs); rootfs {
	case ".", "/", usualRootfs:
		return []string{usualRootfs}
	}
	return []string{rootfs, usualRootfs}
}

// HostCgroups are the directories in HostRoots that show the host's cgroups.
func HostCgroups(rootfs string) []string {
	dirs := HostRoots(rootfs)
	for i := range dirs {
		dirs[i] = filepath.Join(dirs[i], "sys/fs/cgroup")
	}
	return dirs
}

// inode numbers of the machine's own namespaces: PROC_CGROUP_INIT_INO and
// PROC_PID_INIT_INO of include/linux/proc_ns.h, part of the kernel's ABI.
const (
	initCgroupNamespace = 0xEFFFFFFB
	initPIDNamespace    = 0xEFFFFFFC
)

// Discover looks for the cgroup trees. configured is the only place it looks if it
// is not empty; otherwise those in probe that exist come first, then the mounts of
// this process. What a directory is, the file system itself says (statfs), never
// its name or the fields of a mount: a host's tree that is bind-mounted into a
// cgroup namespace has a strange root there and is perfectly good. Nothing is ever
// mounted. proc is the mount point of procfs.
func Discover(proc, configured string, probe ...string) (View, error) {
	files := procfs.New(procfs.Options{Proc: proc})
	v2, v1, err := files.SelfCgroups()
	if err != nil {
		return View{}, fmt.Errorf("discover cgroups: %w", err)
	}
	v := View{HasV1: len(v1) > 0}
	if configured != "" {
		v.Reason, v.Hint = checkRoot(configured)
		if v.Reason != Seeing {
			return v, nil
		}
		probe = []string{configured}
	}
	mounts, err := files.SelfMounts()
	if err != nil {
		return View{}, fmt.Errorf("discover cgroups: %w", err)
	}
	var dirs []string
	for _, dir := range probe {
		dirs = append(dirs, dir)
		dirs = append(dirs, below(dir)...)
	}
	if configured == "" {
		for _, m := range slices.Backward(mounts) { // a later mount hides an earlier one
			if m.Type == "cgroup2" || m.Type == "cgroup" {
				dirs = append(dirs, m.Point)
			}
		}
	}
	v.choose(dirs, mounts)
	v.judge(proc, v2 != "" || v.V2 != "")
	return v, nil
}

// checkRoot says what is wrong with a configured directory.
func checkRoot(dir string) (Blind, string) {
	_, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return RootDenied, fmt.Sprintf("let the sensor read %s", dir)
	case err != nil:
		return RootMissing, fmt.Sprintf("%s: mount the host's /sys/fs/cgroup there, read-only, or correct --path.cgroupfs", err)
	case magic(dir) == 0 && !slices.ContainsFunc(below(dir), func(sub string) bool { return magic(sub) != 0 }):
		return NotCgroupfs, fmt.Sprintf("%s is no cgroup file system and holds none: mount the host's /sys/fs/cgroup there (with its submounts), or correct --path.cgroupfs", dir)
	}
	return Seeing, ""
}

// below lists the directories in dir: on v1 and hybrid machines /sys/fs/cgroup is
// a tmpfs with one mount per hierarchy. Directories of cgroups are not listed.
func below(dir string) []string {
	if magic(dir) != 0 {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var dirs []string
	for _, e := range entries {
		if e.IsDir() {
			dirs = append(dirs, filepath.Join(dir, e.Name()))
		}
	}
	return dirs
}

// magic returns the type of a cgroup file system, 0 for anything else.
func magic(dir string) int64 {
	var s unix.Statfs_t
	if unix.Statfs(dir, &s) != nil || s.Type != unix.CGROUP2_SUPER_MAGIC && s.Type != unix.CGROUP_SUPER_MAGIC {
		return 0
	}
	return s.Type
}

// choose takes the first tree of each version, one that shows the whole machine
// before one that does not. Of v1's trees the one of the memory controller is the
// best, because limits of memory are what most containers have one for.
func (v *View) choose(dirs []string, mounts []procfs.Mount) {
	var v2, v1 bool // whether it is the whole machine
	best := -1
	for _, dir := range dirs {
		switch magic(dir) {
		case unix.CGROUP2_SUPER_MAGIC:
			// Only the true root has no type.
			if whole := !exists(filepath.Join(dir, "cgroup.type")); v.V2 == "" || whole && !v2 {
				v.V2, v2 = dir, whole
			}
		case unix.CGROUP_SUPER_MAGIC:
			// Only the true root has a release agent.
			whole := exists(filepath.Join(dir, "release_agent"))
			controller := controllerOf(dir, mounts)
			worth := slices.Index(controllers, controller) + 1
			if whole {
				worth += len(controllers) + 1
			}
			if worth > best {
				v.V1, v.V1Controller, v1, best = dir, controller, whole, worth
			}
		}
	}
	v.root, _ = inode(v.V2)
	if !v2 {
		v.root = 0
	}
	v.complete = (v2 || v.V2 == "") && (v1 || !v.HasV1) && (v2 || v1)
	if v.V2 != "" && !v2 {
		v.Reason = Subtree
	}
}

// controllers are those of v1 that the kernel side knows by these names, the better
// ones to tell containers by last: all containers are in all of them, but some tools
// use only one.
var controllers = []string{"freezer", "blkio", "devices", "cpuset", "cpu", "pids", "memory"}

// controllerOf returns the best controller of the v1 tree that dir is a part of.
// What is mounted there, the mount table says, by the device.
func controllerOf(dir string, mounts []procfs.Mount) string {
	var s unix.Stat_t
	if unix.Stat(dir, &s) != nil {
		return ""
	}
	for _, m := range mounts {
		if m.Type != "cgroup" || m.Device != s.Dev {
			continue
		}
		for _, c := range slices.Backward(controllers) {
			if slices.Contains(m.Options, c) {
				return c
			}
		}
	}
	return ""
}

// judge finds the reason and the remedy if not everything is visible.
func (v *View) judge(proc string, hasV2 bool) {
	private := namespace(proc, "cgroup") != initCgroupNamespace && namespace(proc, "cgroup") != 0
	switch {
	case hasV2 && v.V2 == "":
		v.Reason, v.Hint = NotMounted, "mount the host's /sys/fs/cgroup at /host/sys/fs/cgroup, read-only (Kubernetes: a hostPath volume), or say where it is with --path.cgroupfs"
	case v.Reason == Subtree && private:
		v.Reason, v.Hint = PrivateNamespace, "start the container with --cgroupns=host, or mount the host's /sys/fs/cgroup at /host/sys/fs/cgroup, read-only (Kubernetes: a hostPath volume)"
	case v.Reason == Subtree:
		v.Hint = v.V2 + " shows only a part of the tree: mount the host's whole /sys/fs/cgroup at /host/sys/fs/cgroup, read-only, or say where it is with --path.cgroupfs"
	case !hasV2 && !hostPIDs(proc):
		v.Reason, v.Hint = PrivatePIDNamespace, "cgroups are v1 only, so that containers are found through /proc: start the container with --pid=host (Kubernetes: hostPID: true)"
	}
}

// hostPIDs reports whether proc shows all processes of the machine, or may.
func hostPIDs(proc string) bool {
	ns := namespace(proc, "pid")
	self, err := os.Readlink(filepath.Join(proc, "self"))
	return ns == initPIDNamespace || ns == 0 || err == nil && self != strconv.Itoa(os.Getpid())
}

// namespace returns the inode number of our namespace of that kind, 0 if it is
// not known.
func namespace(proc, kind string) uint64 {
	ino, _ := inode(filepath.Join(proc, "self", "ns", kind))
	return ino
}

// inode returns the inode number of what path leads to. That of a cgroup
// directory is the cgroup's id.
func inode(path string) (uint64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return inodeOf(info), nil
}

func inodeOf(info fs.FileInfo) uint64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Ino
	}
	return 0
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
