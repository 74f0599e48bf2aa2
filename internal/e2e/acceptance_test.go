package e2e

import (
	"bufio"
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
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// What users of the sensors that this one replaces rely on, tried from outside:
// the binary as they run it, asked as they ask it.

// shownEndpoint is what these tests read of one row of /state/network/endpoint.
type shownEndpoint struct {
	Active     bool
	L4Proto    string
	Endpoint   struct{ Port int }
	Originator struct {
		PID int
		Exe string
	}
}

// shownProcess is what these tests read of /state/processes/{pid}.
type shownProcess struct {
	PID, PPID int
	Exe       string
	Lineage   []struct {
		PID int
		Exe string
	}
}

// A child is a running act that serves until its standard input ends.
type child struct {
	pid   int
	ports []int
	stop  func()
}

// listening starts the program, a copy of or a link to this test, as a listener and waits for its ports.
func listening(t *testing.T, program, act string) *child {
	t.Helper()
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), "SONDE_E2E_ACT="+act)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{pid: cmd.Process.Pid}
	c.stop = func() { stdin.Close(); cmd.Wait() }
	t.Cleanup(c.stop)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("%s says no ports: %v", act, err)
	}
	for word := range strings.FieldsSeq(line) {
		port, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		c.ports = append(c.ports, port)
	}
	return c
}

// listen opens two listeners, says their ports and waits for the end of its input.
func listen() error {
	for i := range 2 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close()
		fmt.Print(l.Addr().(*net.TCPAddr).Port, []string{" ", "\n"}[i])
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// execFromThread replaces the process from a thread that is not its first.
func execFromThread() error {
	failed := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			// The first thread is ours: keep it, and take another.
			go func() {
				runtime.LockOSThread()
				failed <- syscall.Exec("/proc/self/exe", os.Args, []string{"SONDE_E2E_ACT=listen"})
			}()
			select {}
		}
		failed <- syscall.Exec("/proc/self/exe", os.Args, []string{"SONDE_E2E_ACT=listen"})
	}()
	return <-failed
}

// endpoint waits until the port is shown as wanted, and returns its row.
func (a *agent) endpoint(t *testing.T, port int, want func(shownEndpoint) error) (found shownEndpoint) {
	t.Helper()
	waitUntil(t, func() error {
		var all map[string][]shownEndpoint
		a.ask(t, "/state/network/endpoint?detail=true&closed=true", &all)
		for _, rows := range all {
			for _, row := range rows {
				if row.Endpoint.Port == port && row.L4Proto == "TCP" {
					found = row
					return want(row)
				}
			}
		}
		return fmt.Errorf("port %d is not shown", port)
	})
	return found
}

func active(want bool) func(shownEndpoint) error {
	return func(e shownEndpoint) error {
		if e.Active != want {
			return fmt.Errorf("endpoint %+v: active is not %v", e, want)
		}
		return nil
	}
}

// Two listeners of a process lead to it, whether it was started through a
// symbolic link or replaced itself from one of its threads; its path is that of
// the program, the same with the endpoint and with the process, and its parent
// is who started it. When it ends, so do its endpoints.
func TestEndpointsLeadToTheirProcess(t *testing.T) {
	a := startAgent(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, program, act string }{
		{"directly", self, "listen"},
		{"through a link", link, "listen"},
		{"from a thread", self, "exec-from-thread"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := listening(t, test.program, test.act)
			var p shownProcess
			a.ask(t, fmt.Sprintf("/state/processes/%d", c.pid), &p)
			for _, port := range c.ports {
				e := a.endpoint(t, port, active(true))
				if e.Originator.PID != c.pid || e.Originator.Exe != p.Exe {
					t.Errorf("port %d is of %+v, the process that opened it is %+v", port, e.Originator, p)
				}
			}
			if p.Exe != self {
				t.Errorf("the program is %s, want %s", p.Exe, self)
			}
			if p.PPID != os.Getpid() || len(p.Lineage) == 0 || p.Lineage[0].PID != os.Getpid() || p.Lineage[0].Exe != self {
				t.Errorf("the parent of %+v is this test, %d %s", p, os.Getpid(), self)
			}
			c.stop()
			for _, port := range c.ports {
				a.endpoint(t, port, active(false))
			}
		})
	}
}

// A port that is open for an instant only is seen all the same.
func TestBriefListenerIsSeen(t *testing.T) {
	a := startAgent(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	e := a.endpoint(t, l.Addr().(*net.TCPAddr).Port, active(false))
	if e.Originator.PID != os.Getpid() {
		t.Errorf("opened by %+v, not by this test (%d)", e.Originator, os.Getpid())
	}
}

// A connect that hangs is not a connection, one that ends well is, and one that
// does not is counted by its error. Nobody waits in any of these calls.
func TestAsynchronousConnects(t *testing.T) {
	a := startAgent(t)
	full := fullListener(t)
	before := a.families(t)
	hanging, err := connectAsync(full)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(hanging)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	good, err := connectAsync(l.Addr().(*net.TCPAddr).Port)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(good)
	closed, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	if bad, err := connectAsync(closed.Addr().(*net.TCPAddr).Port); err == nil {
		defer unix.Close(bad)
	}
	waitUntil(t, func() error {
		outbound := a.outboundTo(t, l.Addr().(*net.TCPAddr).Port)
		if outbound != 1 {
			return fmt.Errorf("%d connections to the listener, want 1", outbound)
		}
		refused := sum(a.families(t), "sonde_connections_failed_total", "errno=ECONNREFUSED") - sum(before, "sonde_connections_failed_total", "errno=ECONNREFUSED")
		if refused < 1 {
			return fmt.Errorf("%v refused connects, want 1", refused)
		}
		return nil
	})
	// The two above came later than this one.
	if n := a.outboundTo(t, full); n != backlogFill {
		t.Errorf("%d connections to the full listener, want %d: what hangs is not one", n, backlogFill)
	}
}

// backlogFill is how many connections a listener with a backlog of 0 takes before the next one hangs.
const backlogFill = 1

// fullListener returns the port of a listener that takes no more connections.
func fullListener(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, backlogFill-1); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	port := name.(*unix.SockaddrInet4).Port
	for range backlogFill {
		c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	return port
}

// connectAsync begins a connection and does not wait for it.
func connectAsync(port int) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	err = unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port})
	if err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// outboundTo counts the open connections from here to a port of loopback.
func (a *agent) outboundTo(t *testing.T, port int) (n int) {
	t.Helper()
	var all map[string][]shownConnection
	a.ask(t, "/state/network/connection?normalize=false&detail=true", &all)
	remote := fmt.Sprintf("127.0.0.1:%d", port)
	for _, rows := range all {
		for _, row := range rows {
			if row.Active && row.Remote == remote {
				n++
			}
		}
	}
	return n
}

// A /proc that shows nothing costs what comes from there, not the sensor, and is
// counted.
func TestNearlyEmptyProc(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "stat"), []byte("btime 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := startAgent(t, "--path.procfs="+dir)
	f := a.families(t)
	if sum(f, "sonde_procfs_errors_total") == 0 {
		t.Error("no errors of /proc are counted, and there is none")
	}
	if sum(f, "sonde_process_forks_total") == 0 && sum(f, "sonde_syscalls_total") == 0 {
		t.Error("nothing is counted without /proc")
	}
}

// Another program that watches the same tracepoint goes on getting its events.
func TestOtherTracersKeepTheirEvents(t *testing.T) {
	count := countTracepoint(t, "sched", "sched_process_exit")
	startAgent(t)
	before := count()
	const n = 10
	for range n {
		if err := act(t, "nothing").Run(); err != nil {
			t.Fatal(err)
		}
	}
	if got := count() - before; got < n {
		t.Errorf("the other tracer saw %d exits of at least %d", got, n)
	}
}

// countTracepoint counts a tracepoint's hits on the whole node with perf_event_open(2).
func countTracepoint(t *testing.T, group, name string) (read func() uint64) {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tracefs", dir, "tracefs", 0, ""); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "events", group, name, "id"))
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	id, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	var fds []int
	for cpu := range runtime.NumCPU() {
		attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_TRACEPOINT, Config: id}
		attr.Size = unix.PERF_ATTR_SIZE_VER0
		fd, err := unix.PerfEventOpen(&attr, -1, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		fds = append(fds, fd)
	}
	return func() (total uint64) {
		for _, fd := range fds {
			var value [8]byte
			if _, err := unix.Read(fd, value[:]); err != nil {
				t.Fatal(err)
			}
			for _, b := range slices.Backward(value[:]) { // little-endian
				total = total<<8 | uint64(b)
			}
		}
		return total
	}
}
