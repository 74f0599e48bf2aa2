// Package wire speaks the protocol in which gVisor's sandboxes send what
// happens in them to a monitor: the framing, the handshake, and the 38 messages
// with their fields. It encodes and decodes; sockets belong to its callers.
//
// A monitor listens on a Unix socket of type SOCK_SEQPACKET. The sandbox
// connects and sends a Handshake, the monitor answers with its own, and from
// then on the sandbox alone speaks: each datagram is one message, a Header and a
// protobuf payload (proto3).
//
// The messages are plain structs. What belongs to one is said once, in its
// method fields, which serves both ways, so that encoder and decoder cannot
// disagree. Text is []byte: a sandbox runs what nobody trusts, and what it sends
// need not be valid UTF-8. Decoded slices are parts of the datagram; whoever
// keeps a value copies it.
package wire
