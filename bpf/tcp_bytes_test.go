package bpf

import (
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// send writes n bytes and ends its direction of the connection.
func send(fd, n int) error {
	buf := make([]byte, 64<<10)
	for n > 0 {
		m, err := unix.Write(fd, buf[:min(n, len(buf))])
		if err != nil {
			return err
		}
		n -= m
	}
	return unix.Shutdown(fd, unix.SHUT_WR)
}

// receive reads to the end and returns the number of bytes.
func receive(fd int) (int, error) {
	buf := make([]byte, 64<<10)
	total := 0
	for {
		n, err := unix.Read(fd, buf)
		if n == 0 || err != nil {
			return total, err
		}
		total += n
	}
}

// converse sends up and down at the same time, each end half-closing when it has
// sent all, and closes both ends after both have read to the end.
func converse(tb testing.TB, client, server, up, down int) {
	tb.Helper()
	var wg sync.WaitGroup
	side := func(fd, out, in int) {
		sent := make(chan error, 1)
		go func() { sent <- send(fd, out) }()
		n, err := receive(fd)
		if err != nil || n != in {
			tb.Errorf("received %d of %d bytes: %v", n, in, err)
		}
		if err := <-sent; err != nil {
			tb.Errorf("send: %v", err)
		}
	}
	wg.Go(func() { side(client, up, down) })
	wg.Go(func() { side(server, down, up) })
	wg.Wait()
	closeAll(client, server)
}

func carried(n int, up, down uint64) tcpDelta {
	var d tcpDelta
	d.Conns[Outbound] = ConnStat{Opened: uint64(n), Closed: uint64(n), Sent: up, Received: down}
	d.Conns[Inbound] = ConnStat{Opened: uint64(n), Closed: uint64(n), Sent: down, Received: up}
	return d
}

func TestTCPCountsBytesExactly(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		tcp := newTCP(t, k, TCPOptions{})
		privateNet(t)
		fd, port := listen(t, netip.IPv6Unspecified(), 16)
		for _, to := range []unix.Sockaddr{at("10.1.2.3", port), at("fd00::7", port)} {
			sizes := [][2]int{{0, 0}, {1, 0}, {0, 1}, {1, 1}, {3 << 20, 5 << 20}}
			for range 20 {
				sizes = append(sizes, [2]int{rand.IntN(200_000), rand.IntN(200_000)})
			}
			var up, down uint64
			for _, s := range sizes {
				up, down = up+uint64(s[0]), down+uint64(s[1])
			}
			adds(t, tcp, Private, carried(len(sizes), up, down), func() {
				for _, s := range sizes {
					client, server := dial(t, fd, to)
					converse(t, client, server, s[0], s[1])
				}
			})
		}
	})
}

// A reset ends both ends at once; what had arrived stays counted.
func TestTCPCountsResets(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		tcp := newTCP(t, k, TCPOptions{})
		privateNet(t)
		fd, port := listen(t, netip.IPv4Unspecified(), 16)
		before := tcp.stats(t)
		const n = 20
		adds(t, tcp, Private, carried(n, n*1000, 0), func() {
			for range n {
				client, server := dial(t, fd, at("10.1.2.3", port))
				if _, err := unix.Write(client, make([]byte, 1000)); err != nil {
					t.Fatal(err)
				}
				if n, err := unix.Read(server, make([]byte, 2000)); n != 1000 || err != nil {
					t.Fatalf("read %d bytes: %v", n, err)
				}
				must(t, "set SO_LINGER", unix.SetsockoptLinger(client, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
				unix.Close(client)
				if _, err := unix.Read(server, make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
					t.Fatalf("read: %v, want a reset", err)
				}
				unix.Close(server)
			}
		})
		now := tcp.stats(t)
		if now.ResetsSent < before.ResetsSent+n || now.ResetsReceived < before.ResetsReceived+n {
			t.Errorf("resets sent %d→%d, received %d→%d; want %d more", before.ResetsSent, now.ResetsSent,
				before.ResetsReceived, now.ResetsReceived, n)
		}
	})
}

// dropSome makes a socket lose one received packet in n, a power of two.
func dropSome(tb testing.TB, fd int, n uint32) {
	tb.Helper()
	const skfAdRandom = 0xfffff000 + 56
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: skfAdRandom},
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: n - 1, Jt: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},
	}
	must(tb, "set SO_ATTACH_FILTER", unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(filter)), Filter: unsafe.SliceData(filter)}))
}

// What is sent again is no byte more.
func TestTCPCountsBytesOnceDespiteRetransmits(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		tcp := newTCP(t, k, TCPOptions{})
		privateNet(t)
		fd, port := listen(t, netip.IPv4Unspecified(), 16)
		before := tcp.stats(t)
		const up, down = 6 << 20, 4 << 20
		adds(t, tcp, Private, carried(1, up, down), func() {
			client, server := dial(t, fd, at("10.1.2.3", port))
			dropSome(t, client, 16)
			dropSome(t, server, 16)
			converse(t, client, server, up, down)
			time.Sleep(500 * time.Millisecond) // the last ACK may have been lost, too
		})
		if n := tcp.stats(t).Retransmits - before.Retransmits; n == 0 {
			t.Error("nothing was sent again: the test shows nothing")
		}
	})
}

// Readers that come at any time see the bytes of open connections; together they
// see each byte once, and never a counter that goes back.
func TestTCPAddsOpenBytesOnce(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		tcp := newTCP(t, k, TCPOptions{})
		privateNet(t)
		fd, port := listen(t, netip.IPv4Unspecified(), 64)
		to := at("198.51.100.7", port)

		client, server := dial(t, fd, to)
		before := tcp.stats(t)
		if _, err := unix.Write(client, make([]byte, 12345)); err != nil {
			t.Fatal(err)
		}
		reader := os.NewFile(uintptr(server), "server")
		if _, err := io.ReadFull(reader, make([]byte, 12345)); err != nil {
			t.Fatal(err)
		}
		d := deltaOf(before, tcp.stats(t), Public)
		if d.Conns[Outbound].Sent < 12345 || d.Conns[Inbound].Received < 12345 {
			t.Errorf("open connection shows %+v", d.Conns)
		}
		unix.Close(client)
		reader.Close()

		const conns, up, down = 300, 40_000, 20_000
		adds(t, tcp, Public, carried(conns, conns*up, conns*down), func() {
			stop, wg := make(chan struct{}), sync.WaitGroup{}
			for range 2 {
				wg.Go(func() { watchBytes(t, tcp, stop) })
			}
			for range conns / 3 {
				for range 3 {
					client, server := dial(t, fd, to)
					wg.Go(func() { converse(t, client, server, up, down) })
				}
			}
			time.Sleep(50 * time.Millisecond)
			close(stop)
			wg.Wait()
		})
	})
}

func watchBytes(tb testing.TB, tcp *TCP, stop <-chan struct{}) {
	var last TCPStats
	for {
		select {
		case <-stop:
			return
		default:
		}
		now, err := tcp.Read()
		if err != nil {
			tb.Error(err)
			return
		}
		for d := range Directions {
			for p := range Peers {
				a, b := last.Conns[d][p], now.Conns[d][p]
				if b.Sent < a.Sent || b.Received < a.Received {
					tb.Errorf("bytes went back: %s", cmp.Diff(a, b))
				}
			}
		}
		last = now
	}
}
