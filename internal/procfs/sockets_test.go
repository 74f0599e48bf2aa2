package procfs

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The sockets of this process are on the kernel's lists, under its network namespace.
func TestSocketsOfThisProcess(t *testing.T) {
	fs := New(Options{})
	here, err := netNS("/proc/self")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	server := listener.Addr().(*net.TCPAddr).AddrPort()
	dialed, err := net.Dial("tcp4", server.String())
	if err != nil {
		t.Fatal(err)
	}
	defer dialed.Close()
	client := dialed.LocalAddr().(*net.TCPAddr).AddrPort()
	bound, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer bound.Close()
	endpoint := bound.LocalAddr().(*net.UDPAddr).AddrPort()
	zero := netip.MustParseAddrPort("0.0.0.0:0")

	holders, err := fs.SocketHolders()
	if err != nil {
		t.Fatal(err)
	}
	var got []Socket
	mine := func(s Socket) {
		if s.Local == server || s.Local == client || s.Local == endpoint {
			if pid := holders[s.Inode]; pid != uint32(os.Getpid()) {
				t.Errorf("%v is held by %d", s, pid)
			}
			s.Inode = 0
			got = append(got, s)
		}
	}
	if err := fs.TCPSockets(mine); err != nil {
		t.Fatal(err)
	}
	if err := fs.UDPSockets(mine); err != nil {
		t.Fatal(err)
	}
	want := map[Socket]int{
		{here, SocketListen, server, zero, 0}:        1,
		{here, SocketEstablished, client, server, 0}: 1,
		{here, SocketClose, endpoint, zero, 0}:       1,
	}
	found := map[Socket]int{}
	for _, s := range got {
		found[s]++
	}
	if diff := cmp.Diff(want, found, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// Lines of both families, two processes of one namespace, and one that is gone.
func TestSocketsFromFiles(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	for _, pid := range []string{"10", "11"} {
		write(pid+"/net/tcp", header+
			"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 100 1 0 100 0 0 10 0\n"+
			"   1: 0100007F:1F90 0100007F:9C40 06 00000000:00000000 03:00000000 00000000     0        0 0 3 0\n")
		write(pid+"/net/tcp6", header+
			"   0: 0000000000000000FFFF00000100000A:0050 0000000000000000FFFF00000200000A:C000 01 00000000:00000000 00:00000000 00000000     0        0 101 1 0 20 4 30 10 -1\n")
		if err := os.Mkdir(filepath.Join(root, pid, "ns"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("net:[42]", filepath.Join(root, pid, "ns", "net")); err != nil {
			t.Fatal(err)
		}
	}
	write("12/stat", "gone")
	var got []Socket
	if err := New(Options{Proc: root}).TCPSockets(func(s Socket) { got = append(got, s) }); err != nil {
		t.Fatal(err)
	}
	want := []Socket{
		{42, SocketListen, netip.MustParseAddrPort("127.0.0.1:8080"), netip.MustParseAddrPort("0.0.0.0:0"), 100},
		{42, SocketEstablished, netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("10.0.0.2:49152"), 101},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
