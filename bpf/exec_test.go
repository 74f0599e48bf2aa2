package bpf

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// execOf runs the test binary with arguments in a directory and returns the event
// of its exec.
func execOf(t *testing.T, editor *event.Editor, dir string, args ...string) event.Event {
	t.Helper()
	return execOfFile(t, editor, "/proc/self/exe", dir, args...)
}

// execOfFile is execOf with a program of its own, which acts like this one.
func execOfFile(t *testing.T, editor *event.Editor, file, dir string, args ...string) event.Event {
	t.Helper()
	cmd := act("exit", "0")
	cmd.Path, cmd.Args = file, args
	cmd.Dir = dir
	return execsOf(t, editor, cmd)[0]
}

// execsOf runs commands and returns the event of each one's exec.
func execsOf(t *testing.T, editor *event.Editor, cmds ...*exec.Cmd) []event.Event {
	t.Helper()
	k := newKernel(t, Options{RingBytes: 1 << 20, Editor: editor})
	_, e := recordProcesses(t, k, ProcessesOptions{})
	for _, cmd := range cmds {
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
	}
	all := stop(t, k, e)
	if int(k.Self().PID) != os.Getpid() {
		testenv.Skip(t, "needs the initial pid namespace: the child's pid is compared")
	}
	execs := make([]event.Event, len(cmds))
	for i, cmd := range cmds {
		at := slices.IndexFunc(all, func(ev event.Event) bool {
			return ev.Point == event.ProcessExec && ev.Process.PID == uint32(cmd.Process.Pid)
		})
		if at < 0 {
			t.Fatalf("no exec of %v", cmd.Args)
		}
		execs[i] = all[at]
	}
	return execs
}

// Of standard input, output and error it is told which is a socket of the Internet.
func TestExecTellsNetworkDescriptors(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, "listen", err)
	defer l.Close()
	tcp, err := net.Dial("tcp4", l.Addr().String())
	must(t, "dial", err)
	defer tcp.Close()
	udp, err := net.Dial("udp4", "127.0.0.1:9")
	must(t, "dial", err)
	defer udp.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, "make sockets", err)
	local := os.NewFile(uintptr(pair[0]), "socket")
	defer local.Close()
	defer unix.Close(pair[1])
	in, err := tcp.(*net.TCPConn).File()
	must(t, "get file", err)
	defer in.Close()
	out, err := udp.(*net.UDPConn).File()
	must(t, "get file", err)
	defer out.Close()
	remote, mixed := act("exit", "0"), act("exit", "0")
	remote.Stdin, remote.Stdout, remote.Stderr = local, local, local
	mixed.Stdin, mixed.Stdout, mixed.Stderr = in, local, out
	execs := execsOf(t, nil, act("exit", "0"), remote, mixed)
	for i, want := range []uint8{0, 0, 1<<0 | 1<<2} {
		if got := execs[i].Exec.NetworkFDs; got != want {
			t.Errorf("program %d: descriptors %b, want %b", i, got, want)
		}
	}
}

// The executed file is told so that it can be known again, as stat shows it.
func TestExecTellsItsFile(t *testing.T) {
	ev := execOf(t, nil, "/", "x")
	var st unix.Stat_t
	must(t, "stat", unix.Stat("/proc/self/exe", &st))
	if x := &ev.Exec; x.Inode != st.Ino || x.Bytes != uint64(st.Size) || x.ChangedNS != st.Ctim.Nano() || x.Device == 0 {
		t.Errorf("file %+v, want %+v", x, st)
	}
}

// The environment is told while it is wanted, without values that are secret.
func TestExecTellsEnvironmentsOnRequest(t *testing.T) {
	k := newKernel(t, Options{RingBytes: 1 << 20})
	_, e := recordProcesses(t, k, ProcessesOptions{})
	pids := map[uint32]string{}
	for _, env := range []string{"SONDE_TEST_ACT=exit\x00SONDE_TEST_ARG=0\x00API_TOKEN=\x00", ""} {
		must(t, "want environments", k.TellEnvironments(env != ""))
		cmd := act("exit", "0")
		cmd.Env = []string{"SONDE_TEST_ACT=exit", "SONDE_TEST_ARG=0", "API_TOKEN=hush"}
		must(t, "run", cmd.Run())
		pids[uint32(cmd.Process.Pid)] = env
	}
	told := 0
	for _, ev := range stop(t, k, e) {
		if want, ours := pids[ev.Process.PID]; ours && ev.Point == event.ProcessExec {
			told++
			if got := string(ev.Text(event.TextEnv)); got != want || strings.Contains(string(ev.Data), "hush") {
				t.Errorf("environment %q, want %q", got, want)
			}
		}
	}
	if told != len(pids) {
		t.Errorf("%d execs were told, not %d", told, len(pids))
	}
}

// Of a file on an overlay it is told whether it is as the layers below have it.
func TestExecTellsLayers(t *testing.T) {
	testenv.Root(t)
	base := t.TempDir()
	lower, merged := filepath.Join(base, "lower"), filepath.Join(base, "merged")
	for _, dir := range []string{"lower", "upper", "work", "merged"} {
		must(t, "make directory", os.Mkdir(filepath.Join(base, dir), 0o755))
	}
	add := func(dir, name string) string {
		data, err := os.ReadFile("/bin/true")
		must(t, "read", err)
		must(t, "write", os.WriteFile(filepath.Join(dir, name), data, 0o755))
		return filepath.Join(dir, name)
	}
	below := add(lower, "kept")
	add(lower, "changed")
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, filepath.Join(base, "upper"), filepath.Join(base, "work"))
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		testenv.Skip(t, "needs to mount an overlay: "+err.Error())
	}
	t.Cleanup(func() { must(t, "unmount", unix.Unmount(merged, unix.MNT_DETACH)) })
	must(t, "change mode", os.Chmod(filepath.Join(merged, "changed"), 0o711))
	layers := []event.Layer{event.NoLayer, event.LowerLayer, event.UpperLayer, event.UpperLayer}
	var cmds []*exec.Cmd
	for _, path := range []string{below, filepath.Join(merged, "kept"), filepath.Join(merged, "changed"), add(merged, "added")} {
		cmds = append(cmds, &exec.Cmd{Path: path, Args: []string{"true"}})
	}
	for i, ev := range execsOf(t, nil, cmds...) {
		if ev.Exec.Layer != layers[i] {
			t.Errorf("%s is in layer %d, want %d", cmds[i].Path, ev.Exec.Layer, layers[i])
		}
	}
}

func TestExecCarriesItsTexts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ev := execOf(t, nil, dir, "zeroth", "", "two words", "\xff\u00e9", "")
	for text, want := range map[event.Text]string{
		event.TextPath: "/proc/self/exe",
		event.TextArgs: "zeroth\x00\x00two words\x00?\u00e9\x00\x00",
		event.TextCwd:  dir,
		event.TextExe:  self,
	} {
		if got := string(ev.Text(text)); got != want || ev.Texts[text].Truncated {
			t.Errorf("text %d is %q, truncated %v, want %q", text, got, ev.Texts[text].Truncated, want)
		}
	}
}

func TestExecCarriesWhoItBecame(t *testing.T) {
	runtime.LockOSThread() // threads of other tests are in other network namespaces
	defer runtime.UnlockOSThread()
	ev := execOf(t, nil, "/", "x")
	var file unix.Stat_t
	if err := unix.Stat("/proc/self/exe", &file); err != nil {
		t.Fatal(err)
	}
	if x := ev.Exec; x.Inode != file.Ino || int(x.Links) != int(file.Nlink) || uint32(x.Mode) != file.Mode {
		t.Errorf("executed inode %d, %d links, mode %o; want %d, %d, %o", x.Inode, x.Links, x.Mode, file.Ino, file.Nlink, file.Mode)
	}
	c := ev.Exec.Credentials
	if int(c.UID) != os.Getuid() || int(c.EUID) != os.Geteuid() || int(c.GID) != os.Getgid() || int(c.FSGID) != os.Getegid() {
		t.Errorf("credentials %+v", c)
	}
	if want := capabilities(t, "CapEff"); c.Effective != want {
		t.Errorf("effective capabilities %x, want %x", c.Effective, want)
	}
	n := ev.Exec.Namespaces
	for name, got := range map[string]uint32{
		"uts": n.UTS, "ipc": n.IPC, "mnt": n.Mnt, "pid": n.PID, "pid_for_children": n.PIDForChildren,
		"net": n.Net, "time": n.Time, "time_for_children": n.TimeForChildren, "cgroup": n.Cgroup, "user": n.User,
	} {
		if want := namespace(t, name); got != want {
			t.Errorf("namespace %s is %d, want %d", name, got, want)
		}
	}
	if cwd := string(ev.Text(event.TextCwd)); cwd != "/" {
		t.Errorf("working directory %q", cwd)
	}
}

// capabilities reads a set of our own from /proc.
func capabilities(t *testing.T, set string) uint64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, set+":"); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(rest), 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %s in /proc/self/status", set)
	return 0
}

// namespace returns the inode of one of this thread's, 0 where the kernel has none.
func namespace(t *testing.T, name string) uint32 {
	t.Helper()
	link, err := os.Readlink("/proc/thread-self/ns/" + name)
	if os.IsNotExist(err) {
		return 0
	}
	_, inode, ok := strings.Cut(strings.TrimSuffix(link, "]"), "[")
	n, perr := strconv.ParseUint(inode, 10, 32)
	if err != nil || !ok || perr != nil {
		t.Fatalf("namespace %s is %q: %v", name, link, err)
	}
	return uint32(n)
}

func TestExecTextsAreBounded(t *testing.T) {
	var editor event.Editor
	long := strings.Repeat("x", event.ArgsLen)
	ev := execOf(t, &editor, "/", "a", long)
	if got, want := string(ev.Text(event.TextArgs)), ("a\x00" + long)[:event.ArgsLen]; got != want || !ev.Texts[event.TextArgs].Truncated {
		t.Errorf("%d bytes of arguments, truncated %v; want %d", len(got), ev.Texts[event.TextArgs].Truncated, len(want))
	}
	if editor.Sanitized().Cut == 0 {
		t.Error("the cut is not counted")
	}
	ev = execOf(t, &editor, "/", long[:event.ArgsLen-1]) // with its NUL just the bound
	if s := ev.Texts[event.TextArgs]; int(s.Len) != event.ArgsLen || s.Truncated {
		t.Errorf("arguments at the bound: %+v", s)
	}
}

// A directory deeper than what is followed loses its beginning, and says so.
func TestDeepDirectory(t *testing.T) {
	dir := t.TempDir()
	for range 40 {
		dir = filepath.Join(dir, "d")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ev := execOf(t, nil, dir, "x")
	got := string(ev.Text(event.TextCwd))
	if !ev.Texts[event.TextCwd].Truncated || got == "" || !strings.HasSuffix(dir, got) {
		t.Errorf("working directory %q, truncated %v", got, ev.Texts[event.TextCwd].Truncated)
	}
}

func TestWithheldArgumentsNeverArrive(t *testing.T) {
	var editor event.Editor
	editor.KeepArguments(false)
	ev := execOf(t, &editor, "/", "x", "--password=secret")
	if ev.Texts[event.TextArgs].Len != 0 || strings.Contains(string(ev.Data), "secret") {
		t.Errorf("arguments are in %q", ev.Data)
	}
	if path := string(ev.Text(event.TextPath)); path != "/proc/self/exe" {
		t.Errorf("path %q", path)
	}
}

// A file that lies in no directory has a name all the same.
func TestExecOfMemoryFile(t *testing.T) {
	fd, err := unix.MemfdCreate("in memory", 0)
	if err != nil {
		t.Fatal(err)
	}
	program := os.NewFile(uintptr(fd), "memfd")
	defer program.Close()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	if _, err := io.Copy(program, self); err != nil {
		t.Fatal(err)
	}
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd)
	ev := execOfFile(t, nil, path, "/", "x")
	if got, want := string(ev.Text(event.TextExe)), "/memfd:in memory"; got != want || ev.Exec.Links != 0 {
		t.Errorf("executed %q with %d links, want %q and none", got, ev.Exec.Links, want)
	}
	if got := string(ev.Text(event.TextPath)); got != path {
		t.Errorf("given as %q, want %q", got, path)
	}
}

// A mount within the working directory's path does not end it.
func TestWorkingDirectoryUnderAMount(t *testing.T) {
	testenv.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		testenv.Skip(t, "needs to mount a tmpfs: "+err.Error())
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	below := filepath.Join(dir, "below")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	ev := execOf(t, nil, below, "x")
	if got := string(ev.Text(event.TextCwd)); got != below {
		t.Errorf("working directory %q, want %q", got, below)
	}
}

// TestEventsCarryTheirCgroups: an event tells where its process was, in v2 and in the v1
// hierarchy that containers are in, also of one that moved there a moment before.
func TestEventsCarryTheirCgroups(t *testing.T) {
	for _, h := range hierarchies(t) {
		t.Run(h.name, func(t *testing.T) {
			k := newKernel(t, Options{RingBytes: 1 << 20, Controller: h.controller})
			_, events := recordProcesses(t, k, ProcessesOptions{})
			g := h.group(t)
			e := errand{procs: openProcs(t, g)}
			e.exec, e.argv, e.env = execNoop(t)
			e.send(t)
			seen := map[event.Point]int{}
			for _, ev := range stop(t, k, events) {
				if p := &ev.Process; p.CgroupID == g.key.V2 && p.CgroupV1 == g.key.V1 {
					seen[ev.Point]++
				}
			}
			if seen[event.ProcessExec] != 1 || seen[event.ProcessExit] != 1 {
				t.Errorf("of cgroup %+v: %v", g.key, seen)
			}
		})
	}
}
