package bpf

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// unroutable is the one address that cannot be reached in a private net.
var unroutable = netip.MustParseAddr("203.0.113.1")

// privateNet moves the calling test's thread into a network namespace of its
// own, in which every address there is belongs to lo: a test can connect to a
// public or a private peer that nobody else on the machine talks to. The thread
// ends with the test. Sockets must be made on this thread; once made, they work
// everywhere.
func privateNet(tb testing.TB) {
	tb.Helper()
	testenv.Root(tb)
	runtime.LockOSThread() // never unlocked: the thread is thrown away
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		tb.Fatalf("unshare network namespace: %v", err)
	}
	if err := loopbackUp(); err != nil {
		tb.Fatalf("bring lo up: %v", err)
	}
	if err := addRoutes(); err != nil {
		tb.Fatal(err)
	}
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

// addRoutes does `ip route add local default dev lo` for both families, and
// makes unroutable unreachable.
func addRoutes() error {
	loopback := attr{unix.RTA_OIF, []byte{1, 0, 0, 0}}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		if err := addRoute(unix.RtMsg{Family: family, Type: unix.RTN_LOCAL, Scope: unix.RT_SCOPE_HOST}, loopback); err != nil {
			return fmt.Errorf("add default route of family %d: %w", family, err)
		}
	}
	address := unroutable.As4()
	if err := addRoute(unix.RtMsg{Family: unix.AF_INET, Dst_len: 32, Type: unix.RTN_UNREACHABLE}, attr{unix.RTA_DST, address[:]}); err != nil {
		return fmt.Errorf("add unreachable route: %w", err)
	}
	return nil
}

// attr is one attribute of a netlink message; its data is 4 bytes long.
type attr struct {
	kind uint16
	data []byte
}

func addRoute(route unix.RtMsg, a attr) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	type request struct {
		unix.NlMsghdr
		unix.RtMsg
		unix.RtAttr
		data [4]byte
	}
	route.Table, route.Protocol = unix.RT_TABLE_LOCAL, unix.RTPROT_STATIC
	req := request{
		NlMsghdr: unix.NlMsghdr{Type: unix.RTM_NEWROUTE, Flags: unix.NLM_F_REQUEST | unix.NLM_F_CREATE | unix.NLM_F_ACK},
		RtMsg:    route,
		RtAttr:   unix.RtAttr{Len: 8, Type: a.kind},
		data:     [4]byte(a.data),
	}
	req.NlMsghdr.Len = uint32(unsafe.Sizeof(req))
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&req)), unsafe.Sizeof(req))
	if err := unix.Sendto(fd, raw, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	var answer [4096]byte
	n, _, err := unix.Recvfrom(fd, answer[:], 0)
	if err != nil {
		return err
	}
	if errno := -int32(binary.NativeEndian.Uint32(answer[unix.NLMSG_HDRLEN:n])); errno != 0 {
		return unix.Errno(errno)
	}
	return nil
}

// sockaddr makes a socket address; mapped asks for the IPv6 form of an IPv4 one.
func sockaddr(a netip.AddrPort, mapped bool) unix.Sockaddr {
	if a.Addr().Is4() && !mapped {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func familyOf(sa unix.Sockaddr) int {
	if _, ok := sa.(*unix.SockaddrInet4); ok {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// must ends the test on an error of a system call.
func must(tb testing.TB, act string, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatalf("%s: %v", act, err)
	}
}

// socket makes a socket that the test closes.
func socket(tb testing.TB, family, kind int) int {
	tb.Helper()
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	must(tb, "socket", err)
	return fd
}

// listen returns a listening TCP socket and the port it got.
func listen(tb testing.TB, at netip.Addr, backlog int) (int, uint16) {
	tb.Helper()
	sa := sockaddr(netip.AddrPortFrom(at, 0), false)
	fd := socket(tb, familyOf(sa), unix.SOCK_STREAM)
	tb.Cleanup(func() { unix.Close(fd) })
	must(tb, "bind", unix.Bind(fd, sa))
	must(tb, "listen", unix.Listen(fd, backlog))
	return fd, portOf(tb, fd)
}

func portOf(tb testing.TB, fd int) uint16 {
	tb.Helper()
	sa, err := unix.Getsockname(fd)
	must(tb, "getsockname", err)
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return uint16(sa.Port)
	case *unix.SockaddrInet6:
		return uint16(sa.Port)
	}
	return 0
}

// bindTo gives an IPv6 socket the address as its own that it will talk to, as
// IPv4 does by itself in a private net, so that both ends see the same class.
func bindTo(tb testing.TB, fd int, to unix.Sockaddr) {
	tb.Helper()
	sa, ok := to.(*unix.SockaddrInet6)
	if !ok || netip.AddrFrom16(sa.Addr).Is4In6() {
		return
	}
	must(tb, "set IPV6_FREEBIND", unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_FREEBIND, 1))
	must(tb, "bind", unix.Bind(fd, &unix.SockaddrInet6{Addr: sa.Addr}))
}

func ptrOf[T any](v *T) unsafe.Pointer { return unsafe.Pointer(v) }

func uintptrOf[T any](v *T) uintptr { return uintptr(ptrOf(v)) }
