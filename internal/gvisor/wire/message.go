package wire

import "fmt"

// Message is one of the message structs of this package, by pointer.
type Message interface {
	record
	// MessageType returns the type that the header states of it.
	MessageType() Type
	// Cause returns what is said of the thread that caused it, zero for nothing.
	Cause() *Context
}

// Encoder encodes messages one after the other without allocating for each. Its
// zero value is ready. It is for one goroutine.
type Encoder struct{ coder coder }

// Append appends the datagram of a message to dst: header and payload. dropped is
// what the sender has lost so far.
func (e *Encoder) Append(dst []byte, m Message, dropped uint32) []byte {
	return e.coder.encode(appendHeader(dst, m.MessageType(), dropped), m)
}

// Decoder decodes datagrams one after the other without allocating for each. It
// is for one goroutine.
type Decoder struct {
	coder *coder
	kept  [Types]Message // one of each type that has come, filled again and again
}

// NewDecoder returns a decoder.
func NewDecoder() *Decoder { return &Decoder{coder: newCoder()} }

// Decode takes a datagram apart. The message is valid until the next call and
// while the datagram is not changed. With an error that wraps ErrType or
// ErrPayload the header is valid.
func (d *Decoder) Decode(datagram []byte) (Header, Message, error) {
	h, payload, err := ParseHeader(datagram)
	if err != nil {
		return h, nil, err
	}
	if !h.Type.Known() {
		return h, nil, fmt.Errorf("%w: %d", ErrType, uint16(h.Type))
	}
	m := d.kept[h.Type]
	if m == nil {
		m = h.Type.New()
		d.kept[h.Type] = m
	}
	if err := d.coder.decode(payload, m); err != nil {
		return h, nil, fmt.Errorf("decode %v: %w", h.Type, err)
	}
	return h, m, nil
}

// Cut returns how many strings of the last message were left out because their
// list had MaxList already.
func (d *Decoder) Cut() int { return d.coder.cut }
