package main

import (
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/sonde-ebpf/sonde/internal/state"
)

// The sockets of this test are on the list that the picture gets where nothing better is
// to be had: each with its role and with who holds it.
func TestListedSockets(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialed, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer dialed.Close()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	bound, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer bound.Close()

	all, err := newMachine(&settings{procFS: "/proc", sysFS: "/sys"}).listedSockets(true, true)
	if err != nil {
		t.Fatal(err)
	}
	type shown struct {
		local, remote uint16
		protocol      uint8
	}
	port := func(a net.Addr) uint16 { return netip.MustParseAddrPort(a.String()).Port() }
	server, client := port(l.Addr()), port(dialed.LocalAddr())
	listener, inbound, outbound, endpoint := shown{server, 0, state.TCP}, shown{server, client, state.TCP}, shown{client, server, state.TCP}, shown{port(bound.LocalAddr()), 0, state.UDP}
	found := map[shown]int{}
	for _, k := range all {
		c := &k.Conn
		if c.Local != [16]byte{127, 0, 0, 1} || k.Owner.PID != uint32(os.Getpid()) {
			continue
		}
		is := shown{c.LocalPort, c.RemotePort, c.Protocol}
		found[is]++
		if k.Listener != (c.RemotePort == 0) || c.Inbound != (is != outbound) {
			t.Errorf("%+v: listener %v, inbound %v", is, k.Listener, c.Inbound)
		}
	}
	for _, want := range []shown{listener, inbound, outbound, endpoint} {
		if found[want] != 1 {
			t.Errorf("%+v is listed %d times", want, found[want])
		}
	}
}
