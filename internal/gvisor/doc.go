// Package gvisor receives what happens in gVisor's sandboxes, whose system calls
// the host's kernel does not see: it plays the monitor in their remote protocol
// (package wire) and turns their messages into events.
//
// A sandbox connects when it starts and never again: whoever restarts the
// receiver has lost the sandboxes that ran. The Roster remembers them, so that
// they can be named.
//
// What a sandbox sends is as trustworthy as what runs in it. Nothing it sends
// may cost more than the memory set aside here, stop the receiver, or reach
// the picture of the host: ids in its messages are the sandbox's own.
package gvisor
