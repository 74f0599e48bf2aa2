package load

import (
	"errors"
	"fmt"
	"net"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// network is two network namespaces joined by a veth pair. Nothing names them but
// descriptors of this process, so they end with it, however it ends.
type network struct {
	client, server netns.NsHandle
}

// newNetwork makes a client side that has all of 198.18.0.0/16 for its own, and a
// server side that has all of 198.19.0.0/16: the networks reserved for benchmarks.
func newNetwork() (*network, error) {
	n := &network{client: netns.None(), server: netns.None()}
	err := onThread(func() (err error) {
		for _, ns := range []*netns.NsHandle{&n.client, &n.server} {
			if *ns, err = netns.New(); err != nil {
				return fmt.Errorf("make network namespace: %w", err)
			}
		}
		return n.join()
	})
	if err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

func (n *network) close() {
	for _, ns := range []*netns.NsHandle{&n.client, &n.server} {
		if ns.IsOpen() {
			ns.Close()
		}
	}
}

// join puts the pair between the namespaces. The calling thread is in the server's.
func (n *network) join() error {
	pair := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "far", PeerNamespace: netlink.NsFd(n.client)}
	pair.Name = "far"
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("make veth pair: %w", err)
	}
	near, far := side{"192.0.2.1/30", "198.18.0.0/16"}, side{"192.0.2.2/30", "198.19.0.0/16"}
	return errors.Join(near.furnish(n.client, far), far.furnish(n.server, near))
}

// side is one end of the pair: its link's address, and the network that is all its own.
type side struct{ link, own string }

// furnish sets up a side. The other's network is reached by its link's address: were
// it on the link, each of its addresses would be asked for, and take a neighbour's entry.
func (s side) furnish(ns netns.NsHandle, other side) error {
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer h.Close()
	index := map[string]int{}
	for _, name := range []string{"lo", "far"} {
		link, err := h.LinkByName(name)
		if err != nil {
			return fmt.Errorf("find link %s: %w", name, err)
		}
		if err := h.LinkSetUp(link); err != nil {
			return fmt.Errorf("bring up %s: %w", name, err)
		}
		index[name] = link.Attrs().Index
	}
	address, err := netlink.ParseAddr(s.link)
	if err != nil {
		return fmt.Errorf("add address: %w", err)
	}
	gateway, _, err := net.ParseCIDR(other.link)
	if err != nil {
		return fmt.Errorf("add route: %w", err)
	}
	if err := h.AddrReplace(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Index: index["far"]}}, address); err != nil {
		return fmt.Errorf("add address %s: %w", s.link, err)
	}
	return errors.Join(
		addRoute(h, s.own, netlink.Route{LinkIndex: index["lo"], Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST}),
		addRoute(h, other.own, netlink.Route{LinkIndex: index["far"], Gw: gateway}),
	)
}

func addRoute(h *netlink.Handle, to string, route netlink.Route) error {
	_, network, err := net.ParseCIDR(to)
	if err == nil {
		route.Dst = network
		err = h.RouteAdd(&route)
	}
	if err != nil {
		return fmt.Errorf("add route to %s: %w", to, err)
	}
	return nil
}

// within runs do on a thread that is in a namespace.
func (n *network) within(ns netns.NsHandle, do func() error) error {
	return onThread(func() error {
		if err := enter(ns); err != nil {
			return err
		}
		return do()
	})
}

// enter puts the calling thread, which must be locked, into a namespace.
func enter(ns netns.NsHandle) error {
	if err := netns.Set(ns); err != nil {
		return fmt.Errorf("enter network namespace: %w", err)
	}
	return nil
}

// onThread runs do on a thread of its own, which ends with it.
func onThread(do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is not fit for anything else
		done <- do()
	}()
	return <-done
}
