package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/config"
	"github.com/sonde-ebpf/sonde/internal/container"
	"github.com/sonde-ebpf/sonde/internal/procfs"
)

// The oldest kernel that the probes can work on, also as the kernel numbers itself:
// ring buffers and CAP_BPF came with it.
const (
	minKernel     = 5<<16 | 8<<8
	minKernelText = "Linux 5.8"
)

// What a machine should have to spare; less is a warning.
const (
	enoughMemory = 64 << 20 // bytes, the whole sensor with its maps, whose sizes follow from the limit
	enoughSpace  = 64 << 20 // bytes, in the state directory
	enoughFiles  = 1024     // descriptors
)

// status is how a check came out.
type status string

const (
	statusOK   status = "ok"
	statusWarn status = "warn" // the sensor starts, something will be missing
	statusFail status = "fail" // the sensor will not start
)

// finding is the outcome of one check.
type finding struct {
	Check  string   `json:"check"`
	Status status   `json:"status"`
	Detail string   `json:"detail"`           // what was found
	Remedy string   `json:"remedy,omitempty"` // what to do about it
	Code   exitCode `json:"exit_code"`        // 0 unless the status is fail
}

func found(format string, args ...any) finding {
	return finding{Status: statusOK, Detail: fmt.Sprintf(format, args...)}
}

func warn(remedy, format string, args ...any) finding {
	return finding{Status: statusWarn, Detail: fmt.Sprintf(format, args...), Remedy: remedy}
}

func fail(code exitCode, remedy, format string, args ...any) finding {
	return finding{Status: statusFail, Detail: fmt.Sprintf(format, args...), Remedy: remedy, Code: code}
}

// check is one question to the machine. It leaves nothing behind.
type check struct {
	name string
	run  func(*preflight) finding
}

// preflight is what the checks look at.
type preflight struct {
	machine
	settings *settings
	config   *config.Config
}

// checks are asked at every start and by `sonde check`, in this order: what
// explains the failure of others comes first.
var checks = []check{
	{"architecture", (*preflight).architecture},
	{"kernel", (*preflight).kernel},
	{"privileges", (*preflight).privileges},
	{"lockdown", (*preflight).lockdown},
	{"lsm", (*preflight).securityModules},
	{"btf", (*preflight).btf},
	{"bpffs", (*preflight).bpffs},
	{"cgroup", (*preflight).cgroup},
	{"containers", (*preflight).containers},
	{"state", (*preflight).state},
	{"memory", (*preflight).memory},
	{"files", (*preflight).files},
	{"pids", (*preflight).pids},
}

// ask runs the checks.
func (p *preflight) ask(checks []check) []finding {
	all := make([]finding, 0, len(checks))
	for _, c := range checks {
		f := c.run(p)
		f.Check = c.name
		all = append(all, f)
	}
	return all
}

// firstFailure turns the first failure into an error with its exit code.
func firstFailure(all []finding) error {
	for _, f := range all {
		if f.Status == statusFail {
			return &exitError{code: f.Code, err: errors.New(f.Detail), hint: f.Remedy}
		}
	}
	return nil
}

func (p *preflight) architecture() finding {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return warn("", "uname: %v", err)
	}
	machine := unix.ByteSliceToString(u.Machine[:])
	want := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	if machine != want {
		return fail(exitArch, "use the binary for "+machine+", if there is one",
			"this binary is for %s (%s), the kernel says %s", runtime.GOARCH, want, machine)
	}
	return found("%s", machine)
}

func (p *preflight) kernel() finding {
	release, err := p.fs.KernelRelease()
	if err != nil {
		return warn("", "%v", err)
	}
	number, err := procfs.KernelNumber(release)
	if err != nil {
		return warn("", "%v", err)
	}
	if number < minKernel {
		return fail(exitKernel, "use "+minKernelText+" or newer",
			"kernel %s (%d) is older than %s (%d)", release, number, minKernelText, minKernel)
	}
	return found("%s (%d)", release, number)
}

func (p *preflight) privileges() finding {
	if missing := p.missingCapabilities(); len(missing) > 0 {
		who := fmt.Sprintf("user %d", p.euid)
		if p.euid == 0 {
			who = "root without all capabilities"
		}
		return fail(exitPrivileges, "run it as root or grant them", "running as %s, %s missing", who, strings.Join(missing, " and "))
	}
	caps, err := p.fs.SelfCapabilities()
	if err != nil {
		return warn("", "%v", err)
	}
	var missing, lost []string
	for _, c := range useful {
		if !caps.Has(c.bit) && (!c.admin || !caps.Has(procfs.CapSysAdmin)) && (!c.old || p.locksMemory()) {
			missing, lost = append(missing, c.name), append(lost, c.lost)
		}
	}
	if len(missing) > 0 {
		return warn("grant "+strings.Join(missing, ", "), "%s missing: no %s", strings.Join(missing, ", "), strings.Join(lost, "; no "))
	}
	return found("all capabilities needed")
}

func (p *preflight) lockdown() finding {
	mode, err := p.fs.Lockdown()
	switch {
	case err != nil: // an old kernel, or no securityfs: an attach will tell
		return found("unknown (no securityfs)")
	case mode == "confidentiality":
		return fail(exitPolicy, "boot with lockdown=integrity or none", "kernel lockdown is %q, which forbids reading kernel memory", mode)
	}
	return found("%s", mode)
}

// securityModules never fails: whether a policy lets the sensor through, only using
// bpf tells.
func (p *preflight) securityModules() finding {
	active := p.modules()
	if enforcing, err := os.ReadFile(filepath.Join(p.sys, "fs", "selinux", "enforce")); err == nil {
		active += ", SELinux " + map[bool]string{true: "enforcing", false: "permissive"}[string(bytes.TrimSpace(enforcing)) == "1"]
	}
	return found("%s", active)
}

// btfMagic begins a BTF file; little endian, as both architectures are.
var btfMagic = []byte{0x9f, 0xeb}

func (p *preflight) btf() finding {
	path := p.settings.btf
	remedy := "name a BTF file of this very kernel with --btf"
	if path == "" {
		path = p.fs.BTF()
	}
	file, err := os.Open(path)
	if err != nil {
		return fail(exitBTF, remedy, "no type information: %v", err)
	}
	defer file.Close()
	magic := make([]byte, len(btfMagic))
	if _, err := file.Read(magic); err != nil || !bytes.Equal(magic, btfMagic) {
		// An ELF file carries BTF in a section of the same name.
		if !bytes.Equal(magic, []byte("\x7fELF")[:len(magic)]) {
			return fail(exitBTF, remedy, "%s is not a BTF file", path)
		}
	}
	return found("%s", path)
}

func (p *preflight) bpffs() finding {
	dir := nearest(p.settings.pinDir)
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return warn("", "statfs %s: %v", dir, err)
	}
	if fs.Type != unix.BPF_FS_MAGIC {
		return warn("mount -t bpf bpf /sys/fs/bpf, unless the start may mount it",
			"%s is not on bpffs; without it kills of earlier runs stay unknown", p.settings.pinDir)
	}
	return found("%s", p.settings.pinDir)
}

func (p *preflight) cgroup() finding {
	all, err := p.cgroupsV2(p.settings.cgroupFS)
	switch {
	case err != nil:
		return warn("", "%v", err)
	case len(all) == 0:
		return warn("mount cgroup v2, on a v1 machine too: mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified",
			"no cgroup v2: datagrams received without a name are not seen")
	case !all[0].Host:
		return warn("mount the host's /sys/fs/cgroup at /host/sys/fs/cgroup", "%s shows only this container's part of the machine", all[0].Dir)
	}
	return found("%s", all[0].Dir)
}

// containers tells whether containers can be told apart and named; cgroup above is
// about counting datagrams.
func (p *preflight) containers() finding {
	v, err := container.Discover(p.proc, p.settings.cgroupFS, container.HostCgroups(p.root)...)
	switch {
	case err != nil:
		return warn("", "%v", err)
	case !v.Visible():
		return warn(v.Hint, "cgroups of the machine are not visible (%s): containers are not told apart", v.Reason)
	}
	return found("told apart by %s", cmp.Or(v.V2, v.V1))
}

func (p *preflight) state() finding {
	dir := nearest(p.settings.stateDir)
	remedy := "make it writable or choose another --state.dir"
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return fail(exitState, remedy, "%s is not a directory", dir)
	}
	free, dir, err := freeSpace(dir)
	if err != nil {
		return fail(exitState, remedy, "%v", err)
	}
	if free < enoughSpace {
		return warn("free some space", "%s has %s left", dir, mebibytes(free))
	}
	return found("%s, %s free", p.settings.stateDir, mebibytes(free))
}

func (p *preflight) memory() finding {
	m, err := p.fs.SelfMemory()
	switch {
	case err != nil:
		return warn("", "%v", err)
	case m.Limit == nil:
		return found("no limit")
	}
	if *m.Limit < enoughMemory {
		return warn("raise it to "+mebibytes(enoughMemory), "the cgroup's limit is %s", mebibytes(*m.Limit))
	}
	return found("limit %s", mebibytes(*m.Limit))
}

func (p *preflight) files() finding {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return warn("", "getrlimit: %v", err)
	}
	if limit.Max < enoughFiles {
		return warn(fmt.Sprintf("raise it to %d", enoughFiles), "limit of open files is %d", limit.Max)
	}
	return found("limit %d", limit.Max)
}

func (p *preflight) pids() finding {
	n, err := p.fs.Sysctl("kernel/pid_max")
	if err != nil {
		return warn("", "%v", err)
	}
	return found("pid_max %d, room for %d processes and %d threads", n, p.config.Limits.Processes, p.config.Limits.Threads)
}

// nearest returns path or the nearest directory above it that exists.
func nearest(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || path == "/" || path == "." {
			return path
		}
		path = filepath.Dir(path)
	}
}

func mebibytes(n uint64) string { return fmt.Sprintf("%d MiB", n>>20) }
