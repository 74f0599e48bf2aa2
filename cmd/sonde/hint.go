package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	promprocfs "github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/container"
	"github.com/sonde-ebpf/sonde/internal/procfs"
)

// machine is what preflight and hints look at.
type machine struct {
	fs   procfs.FS
	proc string // mount point of procfs
	sys  string // mount point of sysfs
	root string // where the host's root is mounted
	euid int
}

func newMachine(s *settings) machine {
	return machine{
		fs:   procfs.New(procfs.Options{Proc: s.procFS, Sys: s.sysFS}),
		proc: s.procFS,
		sys:  s.sysFS,
		root: s.rootFS,
		euid: os.Geteuid(),
	}
}

// cgroupV2 returns the root of the host's cgroup v2 hierarchy: the one named, or
// the best that is mounted; "" where there is none.
func (m machine) cgroupV2(named string) string {
	found, err := m.cgroupsV2(named)
	if err != nil || len(found) == 0 {
		return ""
	}
	return found[0].Dir
}

// cgroupsV2 returns the cgroup v2 hierarchies that can be seen, the best one first.
func (m machine) cgroupsV2(named string) ([]procfs.Hierarchy, error) {
	var candidates []string
	if named != "" {
		candidates = append(candidates, named)
	}
	for _, dir := range container.HostCgroups(m.root) {
		candidates = append(candidates, dir, filepath.Join(dir, "unified"))
	}
	return m.fs.CgroupV2(candidates...)
}

// anonymousMemory is what this process is charged for besides maps and files.
func (m machine) anonymousMemory() (bytes uint64, err error) {
	fs, err := promprocfs.NewFS(m.proc)
	if err != nil {
		return 0, err
	}
	self, err := fs.Self()
	if err != nil {
		return 0, err
	}
	status, err := self.NewStatus()
	return status.RssAnon, err
}

// explain gives an error of the kernel its exit code and a hint from its errno
// and from what the machine says about itself. An error that already knows its
// code keeps it.
func (m machine) explain(err error, fallback exitCode) error {
	var known *exitError
	if err == nil || errors.As(err, &known) {
		return err
	}
	if bpf.Refused(err) {
		return &exitError{code: fallback, err: err, hint: "the verifier of this kernel refuses the program: please report it"}
	}
	code, hint := fallback, ""
	switch errnoOf(err) {
	case syscall.EPERM:
		code, hint = m.explainEPERM()
	case syscall.EACCES:
		code, hint = exitPolicy, fmt.Sprintf("a security module refuses it (active: %s): allow bpf { map_create map_read map_write prog_load prog_run } for this service", m.modules())
	case syscall.ENOENT:
		code, hint = m.explainENOENT(fallback)
	case syscall.EMFILE, syscall.ENFILE:
		code, hint = exitResources, "file descriptors ran out: raise the limit of open files (ulimit -n, LimitNOFILE=)"
	case syscall.ENOMEM:
		code, hint = exitResources, "kernel memory ran out: raise the memory limit of the cgroup or lower --limits.*"
	case syscall.ENOSPC:
		code, hint = exitResources, "space ran out: free some on the file system named, or raise the limit of the map"
	case syscall.EBUSY, syscall.EEXIST:
		code, hint = exitRunning, "something like it is there already: is another instance running with the same --bpf.pin-dir?"
	case syscall.ENOTSUP, syscall.EINVAL, syscall.E2BIG, syscall.Errno(524): // 524 is the kernel's own ENOTSUPP
		hint = "this kernel may lack the feature: `sonde check` tells what it has"
	}
	return &exitError{code: code, err: err, hint: hint}
}

// explainEPERM finds out which of the three usual causes applies.
func (m machine) explainEPERM() (exitCode, string) {
	if missing := m.missingCapabilities(); len(missing) > 0 {
		hint := "the process lacks " + strings.Join(missing, ", ") + ": run it as root or grant them"
		if n, err := m.fs.Sysctl("kernel/unprivileged_bpf_disabled"); err == nil && n > 0 {
			hint += fmt.Sprintf(" (kernel.unprivileged_bpf_disabled is %d, so nobody may use bpf without)", n)
		}
		return exitPrivileges, hint
	}
	if mode, err := m.fs.Lockdown(); err == nil && mode != "none" {
		return exitPolicy, fmt.Sprintf("kernel lockdown is %q: boot with lockdown=none, or without Secure Boot, for what it forbids", mode)
	}
	return exitPolicy, "the process has the capabilities and lockdown is off: a seccomp filter or a security module refuses it"
}

func (m machine) explainENOENT(fallback exitCode) (exitCode, string) {
	if _, err := os.Stat(m.fs.BTF()); err != nil {
		return exitBTF, "the kernel has no BTF: name a BTF file of this very kernel with --btf"
	}
	tracefs := filepath.Join(m.sys, "kernel", "tracing", "events")
	if _, err := os.Stat(tracefs); err != nil {
		return fallback, "tracefs is not mounted: mount -t tracefs tracefs " + filepath.Dir(tracefs)
	}
	return fallback, ""
}

// needed are the capabilities without which nothing works; CAP_SYS_ADMIN stands
// for all of them, as before Linux 5.8.
var needed = []struct {
	bit  uint
	name string
}{{procfs.CapBPF, "CAP_BPF"}, {procfs.CapPerfmon, "CAP_PERFMON"}}

// useful are the capabilities without which something is missing.
var useful = []struct {
	bit   uint
	name  string
	admin bool // CAP_SYS_ADMIN contains it as far as bpf goes
	old   bool // needed only before Linux 5.11, where BPF memory is locked memory
	lost  string
}{
	{procfs.CapNetAdmin, "CAP_NET_ADMIN", true, false, "datagrams: the udp probe is missing"},
	{procfs.CapSysPtrace, "CAP_SYS_PTRACE", false, false, "names of functions of other users' processes in profiles, files of those processes"},
	{procfs.CapSysResource, "CAP_SYS_RESOURCE", true, true, "locked memory"},
	{unix.CAP_SYSLOG, "CAP_SYSLOG", true, false, "names of kernel functions in profiles, scope of OOM kills is inferred"},
	{unix.CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH", false, false, "containers of the first events of new ones, names of functions of other users' programs in profiles"},
	{procfs.CapSysAdmin, "CAP_SYS_ADMIN", false, false, "run-time statistics of the sensor's programs"},
}

// locksMemory tells whether the kernel is known to be older than 5.11.
func (m machine) locksMemory() bool {
	release, err := m.fs.KernelRelease()
	if err != nil {
		return false
	}
	major, minor, err := procfs.KernelVersion(release)
	return err == nil && (major < 5 || major == 5 && minor < 11)
}

// missingCapabilities lists what is needed and not there. If the status file
// cannot be read, only root is trusted.
func (m machine) missingCapabilities() []string {
	caps, err := m.fs.SelfCapabilities()
	if err == nil && caps.Has(procfs.CapSysAdmin) || err != nil && m.euid == 0 {
		return nil
	}
	var missing []string
	for _, c := range needed {
		if !caps.Has(c.bit) {
			missing = append(missing, c.name)
		}
	}
	return missing
}

// modules names the active security modules.
func (m machine) modules() string {
	data, err := os.ReadFile(filepath.Join(m.sys, "kernel", "security", "lsm"))
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(data))
}

// hostMounts is the inode of the mount namespace of pid 1, 0 where it cannot be told.
// Where even root may not look at pid 1, it is the sensor's own, unless the host's root
// is mounted elsewhere: then the sensor is in a container.
func (m machine) hostMounts() uint32 {
	of := []string{"1"}
	if m.root == "/" {
		of = append(of, "self")
	}
	for _, pid := range of {
		if info, err := os.Stat(filepath.Join(m.proc, pid, "ns/mnt")); err == nil {
			if stat, ok := info.Sys().(*syscall.Stat_t); ok {
				return uint32(stat.Ino)
			}
		}
	}
	return 0
}
