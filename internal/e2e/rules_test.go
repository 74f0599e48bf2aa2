package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/tetragon/api/v1/tetragon"
	"golang.org/x/sys/unix"
)

// stage is where acts are performed that detection rules are about. They cannot be
// told by their directory: it is none that everybody may write to.
type stage struct {
	t         *testing.T
	dir, temp string
	self      string // a copy of this test
	cgroup    string // looks like a container
	port      int    // on loopback, of somebody who takes connections
}

// copied makes a program of another one.
func (s *stage) copied(from, to string, mode os.FileMode) string {
	s.t.Helper()
	if !filepath.IsAbs(to) {
		to = filepath.Join(s.dir, to)
	}
	if from == "/proc/self/exe" {
		if err := os.Link(s.self, to); err != nil {
			s.t.Fatal(err)
		}
		return to
	}
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o755)
	}
	if err == nil {
		err = os.Chmod(to, mode)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return to
}

func (s *stage) run(cmd *exec.Cmd) {
	s.t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
}

func (s *stage) shell(script string) {
	s.t.Helper()
	s.run(exec.Command("/bin/sh", "-ec", script))
}

// listener begins to listen as a program of that path, and ends.
func (s *stage) listener(path string) string {
	s.t.Helper()
	listening(s.t, s.copied("/proc/self/exe", path, 0o755), "listen").stop()
	return path
}

// acting runs an act of this test as a program of its own name, whatever comes of it.
func (s *stage) acting(name, act string, as uint32) string {
	s.t.Helper()
	p := s.copied("/proc/self/exe", name, 0o755)
	cmd := exec.Command(p)
	cmd.Env = append(os.Environ(), "SONDE_E2E_ACT="+act)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: as, Gid: as}}
	_ = cmd.Run() // a kernel may refuse what it does
	return p
}

// byDescriptor executes a file by a descriptor.
func (s *stage) byDescriptor(f *os.File) {
	s.t.Helper()
	defer f.Close()
	cmd := exec.Command("/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{f}
	s.run(cmd)
}

func (s *stage) memfd(name string) string {
	s.t.Helper()
	fd, err := unix.MemfdCreate(name, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), name)
	data, err := os.ReadFile("/bin/true")
	if err == nil {
		_, err = f.Write(data)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	reopened, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd)) // one that is open for writing cannot be executed
	f.Close()
	if err != nil {
		s.t.Fatal(err)
	}
	s.byDescriptor(reopened)
	return "memfd:" + name
}

func (s *stage) asNobody(path string) string {
	s.t.Helper()
	cmd := exec.Command(path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	s.run(cmd)
	return path
}

// connect has a shell of that path connect.
func (s *stage) connect(shell, address string, port int) string {
	s.t.Helper()
	s.run(exec.Command(s.copied("/bin/bash", shell, 0o755), "-c", fmt.Sprintf("exec 3<>/dev/tcp/%s/%d", address, port)))
	return filepath.Join(s.dir, shell)
}

// metadata connects to an address in a network of its own, from the container.
func (s *stage) metadata(name, address string) string {
	s.t.Helper()
	client := s.copied("/bin/bash", name, 0o755)
	server := s.copied("/proc/self/exe", name+"-server", 0o755)
	s.shell(fmt.Sprintf(`echo 0 >%s/cgroup.procs
exec unshare -n sh -ec 'ip link set lo up; ip address add %s/32 dev lo
mkfifo %[3]s.fifo; SONDE_E2E_ACT=listen-anywhere %[4]s <%[3]s.fifo >%[3]s.ports & exec 9>%[3]s.fifo
until read port <%[3]s.ports && test -n "$port"; do sleep 0.1; done
%[3]s -c "exec 3<>/dev/tcp/%[2]s/$port"'`, s.cgroup, address, client, server))
	return client
}

// onOverlay executes a program in the container, from an overlay that it was added to,
// or that has it from the layer below.
func (s *stage) onOverlay(name string, added bool) string {
	s.t.Helper()
	dir := filepath.Join(s.dir, name)
	below, above := "cp /bin/true lower/"+name, "true"
	if added {
		below, above = "true", "cp /bin/true merged/"+name
	}
	s.shell(fmt.Sprintf(`mkdir %[1]s && cd %[1]s && mkdir lower upper work merged && %[2]s
echo 0 >%[3]s/cgroup.procs
exec unshare -m sh -ec 'mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged; %[4]s; exec merged/%[5]s'`,
		dir, below, s.cgroup, above, name))
	return filepath.Join(dir, "merged", name)
}

// fed starts a shell of that name with a connection as its input.
func (s *stage) fed(shell, network, address string) string {
	s.t.Helper()
	c, err := net.Dial(network, address)
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	f, err := c.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command(s.copied("/bin/bash", shell, 0o755), "-c", ":")
	cmd.Stdin = f
	s.run(cmd)
	return cmd.Path
}

// reads has a program read a file of its own, not for everybody, by a link to it.
func (s *stage) reads(program, file, link string) string {
	s.t.Helper()
	file, link = filepath.Join(s.dir, file), filepath.Join(s.dir, link)
	err := os.MkdirAll(filepath.Join(s.dir, ".ssh"), 0o755)
	if err == nil {
		err = os.WriteFile(file, []byte("nothing"), 0o600)
	}
	if err == nil {
		err = os.Symlink(file, link)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	p := s.copied("/bin/cat", program, 0o755)
	s.run(exec.Command(p, link))
	return p
}

// opensSetting has a program open a setting of the kernel, in a container if its cgroup
// is given, and write nothing to it.
func (s *stage) opensSetting(program, cgroup string) string {
	s.t.Helper()
	p := s.copied("/bin/bash", program, 0o755)
	if cgroup == "" {
		cgroup = s.temp // no cgroup: a file of that name
	}
	s.shell(fmt.Sprintf("echo 0 >%s/cgroup.procs; exec %s -c 'exec 3<>/proc/sys/kernel/core_pattern'", cgroup, p))
	return p
}

// joins has a program of the container join a mount namespace.
func (s *stage) joins(program, namespace string) string {
	s.t.Helper()
	p := s.copied("/proc/self/exe", program, 0o755)
	s.shell(fmt.Sprintf("echo 0 >%s/cgroup.procs; SONDE_E2E_ACT=join-mounts exec unshare -m %s %s", s.cgroup, p, namespace))
	return p
}

// joinMounts joins a mount namespace.
func joinMounts() error {
	f, err := os.Open(os.Args[1])
	if err != nil {
		return err
	}
	defer f.Close()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	return unix.Setns(int(f.Fd()), 0)
}

// loadModule has the kernel refuse what is no module.
func loadModule() error {
	f, err := os.Open("/bin/true")
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}

// loadProgram loads a BPF program that does nothing, and lets go of it.
func loadProgram() error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SocketFilter, License: "MIT", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return err
	}
	return p.Close()
}

// attach takes control of a child that did not ask for it, and lets it go.
func attach() error {
	cmd := exec.Command("/bin/sleep", "60")
	if err := cmd.Start(); err != nil {
		return err
	}
	runtime.LockOSThread()
	err := unix.PtraceAttach(cmd.Process.Pid)
	return errors.Join(err, cmd.Process.Kill(), ignoreExit(cmd.Wait()))
}

// beTraced starts a child that asks to be traced, as debuggers start programs.
func beTraced() error {
	runtime.LockOSThread()
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	return errors.Join(cmd.Process.Kill(), ignoreExit(cmd.Wait()))
}

func ignoreExit(err error) error {
	if _, ended := errors.AsType[*exec.ExitError](err); ended {
		return nil
	}
	return err
}

// listenAnywhere listens on all addresses and says the port.
func listenAnywhere() error {
	l, err := net.Listen("tcp4", ":0")
	if err != nil {
		return err
	}
	defer l.Close()
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// detections are the rules that are part of the sensor, each with an act that it is
// about, done without harm, and one that only looks like it. An act returns the
// program by which its event is known, at a point.
var detections = []struct {
	rule, point    string
	act, lookalike func(*stage) string
}{
	{
		"exec-from-temporary-directory", "process/exec",
		func(s *stage) string {
			p := s.copied("/bin/true", s.temp+"/from-temp", 0o755)
			s.run(exec.Command(p))
			return p
		},
		func(s *stage) string { // the name that was given is in /tmp, the file is not
			p := s.copied("/bin/true", "from-elsewhere", 0o755)
			if err := os.Symlink(p, s.temp+"/link"); err != nil {
				s.t.Fatal(err)
			}
			s.run(exec.Command(s.temp + "/link"))
			return p
		},
	},
	{
		"exec-of-unlinked-file", "process/exec",
		func(s *stage) string { return s.memfd("from-memory") },
		func(s *stage) string { // by a descriptor too, but of a file that has a name
			p := s.copied("/bin/true", "by-descriptor", 0o755)
			f, err := os.Open(p)
			if err != nil {
				s.t.Fatal(err)
			}
			s.byDescriptor(f)
			return p
		},
	},
	{
		"exec-of-hidden-file", "process/exec",
		func(s *stage) string { p := s.copied("/bin/true", ".hidden", 0o755); s.run(exec.Command(p)); return p },
		func(s *stage) string {
			p := s.copied("/bin/true", "not.hidden", 0o755)
			s.run(exec.Command(p))
			return p
		},
	},
	{
		"root-executes-writable-file", "process/exec",
		func(s *stage) string { p := s.copied("/bin/true", "writable", 0o777); s.run(exec.Command(p)); return p },
		func(s *stage) string { p := s.copied("/bin/true", "writable-too", 0o777); return s.asNobody(p) },
	},
	{
		"setuid-escalation", "process/exec",
		func(s *stage) string { return s.asNobody(s.copied("/bin/true", "escalates", os.ModeSetuid|0o755)) },
		func(s *stage) string { return s.asNobody(s.copied("/bin/true", "stays", 0o755)) },
	},
	{
		"container-in-host-mounts", "process/exec",
		func(s *stage) string {
			p := s.copied("/bin/true", "sees-host", 0o755)
			s.shell("echo 0 >" + s.cgroup + "/cgroup.procs; exec " + p)
			return p
		},
		func(s *stage) string {
			p := s.copied("/bin/true", "sees-its-own", 0o755)
			s.shell("echo 0 >" + s.cgroup + "/cgroup.procs; exec unshare -m " + p)
			return p
		},
	},
	{
		"container-drift", "process/exec",
		func(s *stage) string { return s.onOverlay("adds", true) },
		func(s *stage) string { return s.onOverlay("keeps", false) },
	},
	{
		"shell-with-network-stdio", "process/exec",
		func(s *stage) string { return s.fed("sh", "tcp4", fmt.Sprint("127.0.0.1:", s.port)) },
		func(s *stage) string { // from a socket too, but from one of this machine
			path := filepath.Join(s.temp, "socket")
			l, err := net.Listen("unix", path)
			if err != nil {
				s.t.Fatal(err)
			}
			defer l.Close()
			return s.fed("dash", "unix", path)
		},
	},
	{
		"listener-of-shell-or-tool", "network/listen",
		func(s *stage) string { return s.listener(s.dir + "/nc") },
		func(s *stage) string { return s.listener(s.dir + "/nc-server") },
	},
	{
		"listener-from-temporary-directory", "network/listen",
		func(s *stage) string { return s.listener(s.temp + "/served") },
		func(s *stage) string { return s.listener(s.dir + "/served") },
	},
	{
		"shell-connects", "network/connect",
		func(s *stage) string { return s.connect("bash", "127.0.0.1", s.port) },
		func(s *stage) string { return s.connect("client", "127.0.0.1", s.port) },
	},
	{
		"cloud-metadata-from-container", "network/connect",
		func(s *stage) string { return s.metadata("asks", "169.254.169.254") },
		func(s *stage) string { return s.metadata("asks-another", "169.254.169.253") },
	},
	{
		"sensitive-file-open", "file/open",
		func(s *stage) string { return s.reads("reads-key", ".ssh/id_test", "notes") },
		func(s *stage) string { return s.reads("reads-notes", "notes-of-mine", ".ssh/id_link") },
	},
	{
		"kernel-setting-from-container", "file/open",
		func(s *stage) string { return s.opensSetting("opens-setting", s.cgroup) },
		func(s *stage) string { return s.opensSetting("opens-setting-of-host", "") },
	},
	{
		"container-joins-host-mounts", "process/setns",
		func(s *stage) string { return s.joins("joins-host", fmt.Sprintf("/proc/%d/ns/mnt", os.Getpid())) },
		func(s *stage) string { return s.joins("joins-itself", "/proc/self/ns/mnt") },
	},
	{
		"kernel-module-load", "module/load",
		func(s *stage) string { return s.acting("loads-module", "load-module", 0) },
		func(s *stage) string { return s.acting("may-load-none", "load-module", 65534) },
	},
	{
		"bpf-program-load", "bpf/load",
		func(s *stage) string { return s.acting("loads-program", "load-program", 0) },
		func(s *stage) string { return s.acting("may-load-no-program", "load-program", 65534) },
	},
	{
		"ptrace-attach", "syscall/ptrace/exit",
		func(s *stage) string { return s.acting("attaches", "attach", 0) },
		func(s *stage) string { return s.acting("starts-traced", "be-traced", 0) },
	},
}

// TestDefaultRules does what each rule is about, and what only looks like it.
func TestDefaultRules(t *testing.T) {
	s := &stage{t: t, temp: t.TempDir()}
	var err error
	if s.dir, err = os.MkdirTemp("/var/lib", "sonde-e2e-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(s.dir) })
	if err := os.Chmod(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	id := fmt.Sprintf("%064x", uint64(os.Getpid())<<32|uint64(time.Now().UnixNano())>>32)
	data, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		s.self = filepath.Join(s.dir, "self")
		err = os.WriteFile(s.self, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	events, file := filepath.Join(s.dir, "events.json"), filepath.Join(s.temp, "sonde.yaml")
	config := `{rules: {files: [default]}, sessions: [{name: all, points: [{name: container/start}, {name: module/load}, {name: bpf/load}, {name: file/open}, {name: process/setns}, {name: syscall/ptrace/exit}, {name: signal/deliver},
    {name: process/exec}, {name: network/connect}, {name: network/listen}],
  sinks: [{name: jsonl, config: {path: ` + events + `}}]}]}`
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	a := startAgent(t, "--config.file="+file, "--events.dir="+s.dir)
	s.cgroup = containerCgroup(t, id)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s.port = l.Addr().(*net.TCPAddr).Port

	type wanted struct{ acted, resembled string }
	programs := make([]wanted, len(detections))
	for i, d := range detections {
		programs[i] = wanted{d.act(s), d.lookalike(s)}
	}
	for i, d := range detections {
		waitUntil(t, func() error {
			all := lines(t, events)
			if marks := marksOf(all, d.point, programs[i].acted); !slices.Contains(marks, d.rule) {
				return fmt.Errorf("%s: the event of %s has the marks %q", d.rule, programs[i].acted, marks)
			}
			if marks := marksOf(all, d.point, programs[i].resembled); marks == nil || slices.Contains(marks, d.rule) {
				return fmt.Errorf("%s: the event of %s, which is none, has the marks %q", d.rule, programs[i].resembled, marks)
			}
			return nil
		})
		if n := sum(a.families(t), "sonde_rule_matches_total", "rule="+d.rule); n == 0 {
			t.Errorf("%s has found nothing", d.rule)
		}
	}
	if all := lines(t, events); !slices.ContainsFunc(all, func(ev *tetragon.GetEventsResponse) bool {
		p := ev.GetProcessTracepoint()
		return p.GetMessage() == "container/start" && p.Args[0].GetStringArg() == id
	}) {
		t.Error("nothing tells that the container has begun")
	}
	out, err := exec.Command(a.cmd.Path, "version", "--run.dir="+a.dir).CombinedOutput()
	if err != nil || !strings.Contains(string(out), fmt.Sprintf("rules: %d, version 1 (", len(detections)+1)) {
		t.Errorf("%v: %s, want its %d rules", err, out, len(detections)+1)
	}
	s.signals(a, events)
}

// signals ends another process and then the sensor, which tells of it to the last.
func (s *stage) signals(a *agent, events string) {
	s.t.Helper()
	other := exec.Command(s.copied("/bin/sleep", "sleep", 0o755), "60")
	if err := other.Start(); err != nil {
		s.t.Fatal(err)
	}
	if err := errors.Join(other.Process.Signal(syscall.SIGTERM), ignoreExit(other.Wait())); err != nil {
		s.t.Error(err)
	}
	a.stop(s.t)
	const rule, point = "sensor-signalled", "signal/deliver"
	all := lines(s.t, events)
	if marks := marksOf(all, point, filepath.Base(a.cmd.Path)); !slices.Contains(marks, rule) {
		s.t.Errorf("%s: the signal to the sensor has the marks %q", rule, marks)
	}
	if marks := marksOf(all, point, other.Path); marks == nil || slices.Contains(marks, rule) {
		s.t.Errorf("%s: a signal to another process has the marks %q", rule, marks)
	}
}

// marksOf returns the rules that the events of a program at a point fit; nil where
// there is no such event.
func marksOf(all []*tetragon.GetEventsResponse, point, program string) (marks []string) {
	for _, ev := range all {
		process, at := ev.GetProcessKprobe().GetProcess(), ev.GetProcessKprobe().GetMessage()
		switch e := ev.Event.(type) {
		case *tetragon.GetEventsResponse_ProcessExec:
			process, at = e.ProcessExec.Process, "process/exec"
		case *tetragon.GetEventsResponse_ProcessTracepoint:
			process, at = e.ProcessTracepoint.Process, e.ProcessTracepoint.Message
		}
		if at == point && strings.HasSuffix(process.GetBinary(), program) {
			marks = append(marks, strings.Split(ev.NodeLabels["sonde.rule"], ",")...)
		}
	}
	return marks
}
