package bench

import (
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// operation is what a ladder measures: one thing that a program asks of the kernel.
type operation struct {
	calls int // in a sample: some tens of milliseconds
	// prepare returns the operation; what it needs ends with the test.
	prepare func(tb testing.TB) func()
	probe   func(*bpf.Kernel) error // loads the probe that follows it
	empty   []string                // programs that do nothing at the same places
}

// operations, by the name that benchmarks give them.
var operations = map[string]operation{
	"syscall": {300_000, prepareSyscall, syscallsProbe, []string{"empty_exit", "empty_enter"}},
	"open":    {50_000, prepareOpen, syscallsProbe, []string{"empty_exit", "empty_enter"}},
	"exec":    {300, prepareExec, processProbe, []string{"empty_fork", "empty_exec", "empty_process_exit"}},
	"tcp":     {2_000, prepareTCP, tcpProbe, []string{"empty_set_state", "empty_set_state"}}, // as the probe: twice
	"udp":     {20_000, prepareUDP, udpProbe, nil},
}

func syscallsProbe(k *bpf.Kernel) error {
	_, err := bpf.NewSyscalls(k, bpf.SyscallsOptions{})
	return err
}
func processProbe(k *bpf.Kernel) error {
	_, err := bpf.NewProcesses(k, bpf.ProcessesOptions{})
	return err
}
func udpProbe(k *bpf.Kernel) error {
	_, err := bpf.NewUDP(k, bpf.UDPOptions{CgroupPath: testenv.CgroupV2()})
	return err
}
func tcpProbe(k *bpf.Kernel) error   { _, err := bpf.NewTCP(k, bpf.TCPOptions{}); return err }
func dropsProbe(k *bpf.Kernel) error { _, err := bpf.NewDrops(k); return err }

func prepareSyscall(testing.TB) func() {
	return func() { unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0) }
}

// must ends the test where an operation fails: a cost of errors is none.
func must(tb testing.TB, act string, err error) {
	if err != nil {
		tb.Helper()
		tb.Fatalf("%s: %v", act, err)
	}
}

// smallest is a program that is on every machine and does next to nothing: what it
// takes to run it is the kernel's work and the dynamic linker's.
const smallest = "/bin/true"

// prepareExec starts a program that only ends, and waits for that.
func prepareExec(tb testing.TB) func() {
	argv := []string{smallest}
	return func() {
		pid, err := syscall.ForkExec(smallest, argv, &syscall.ProcAttr{})
		must(tb, "start "+smallest, err)
		_, err = syscall.Wait4(pid, nil, 0, nil)
		must(tb, "wait for "+smallest, err)
	}
}

// bound returns a socket on loopback, and its address.
func bound(tb testing.TB, kind int, to [4]byte) (fd int, address *unix.SockaddrInet4) {
	tb.Helper()
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	must(tb, "make socket", err)
	tb.Cleanup(func() { unix.Close(fd) })
	must(tb, "bind", unix.Bind(fd, &unix.SockaddrInet4{Addr: to}))
	name, err := unix.Getsockname(fd)
	must(tb, "ask for address", err)
	return fd, name.(*unix.SockaddrInet4)
}

// prepareTCP connects, accepts, and closes both ends. Each end of a connection keeps a
// port for a minute, so every connection goes to another address of the host.
func prepareTCP(tb testing.TB) func() {
	server, address := bound(tb, unix.SOCK_STREAM, [4]byte{})
	must(tb, "listen", unix.Listen(server, 16))
	var n uint32
	return func() {
		n++
		address.Addr = [4]byte{127, byte(n >> 16), byte(n >> 8), byte(n) | 1}
		client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		must(tb, "make socket", err)
		must(tb, "connect", unix.Connect(client, address))
		accepted, _, err := unix.Accept4(server, unix.SOCK_CLOEXEC)
		must(tb, "accept", err)
		must(tb, "close", unix.Close(client))
		must(tb, "close", unix.Close(accepted))
	}
}

// prepareUDP sends a datagram over loopback and takes it in, so that no queue fills.
func prepareUDP(tb testing.TB) func() {
	local := [4]byte{127, 0, 0, 1}
	server, address := bound(tb, unix.SOCK_DGRAM, local)
	client, _ := bound(tb, unix.SOCK_DGRAM, local)
	payload, room := make([]byte, 64), make([]byte, 64)
	return func() {
		must(tb, "send", unix.Sendto(client, payload, 0, address))
		_, err := unix.Read(server, room)
		must(tb, "receive", err)
	}
}

func prepareOpen(tb testing.TB) func() {
	path := filepath.Join(tb.TempDir(), "file")
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	must(tb, "make file", err)
	unix.Close(fd)
	return func() {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		must(tb, "open", err)
		must(tb, "close", unix.Close(fd))
	}
}
