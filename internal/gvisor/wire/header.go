package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Sizes of the protocol, in bytes.
const (
	// HeaderSize is the size of the header that we write. Later versions may
	// append to it, so that a reader goes by the size that the header states.
	HeaderSize = 8

	// MaxMessage is the largest datagram that a reader has to expect, header
	// included. The kernel holds a sender to its SO_SNDBUF, 208 KiB unless raised.
	MaxMessage = 1 << 20

	// MaxHandshake bounds the datagram of a handshake.
	MaxHandshake = 10240
)

// Faults of a datagram. Every error of this package is one of them.
var (
	ErrHeader    = errors.New("malformed header")
	ErrType      = errors.New("unknown message type")
	ErrPayload   = errors.New("malformed payload")
	ErrHandshake = errors.New("malformed handshake")
	ErrVersion   = errors.New("protocol version too old")
)

// Header precedes the payload in every datagram but the handshake's: three
// little-endian numbers of 2, 2 and 4 bytes.
type Header struct {
	Size    uint16 // of the header itself
	Type    Type
	Dropped uint32 // messages the sender has lost since the session began; wraps
}

// ParseHeader takes a datagram apart.
func ParseHeader(datagram []byte) (h Header, payload []byte, err error) {
	if len(datagram) < HeaderSize {
		return h, nil, fmt.Errorf("%w: %d bytes, want %d or more", ErrHeader, len(datagram), HeaderSize)
	}
	h = Header{
		Size:    binary.LittleEndian.Uint16(datagram),
		Type:    Type(binary.LittleEndian.Uint16(datagram[2:])),
		Dropped: binary.LittleEndian.Uint32(datagram[4:]),
	}
	if h.Size < HeaderSize || int(h.Size) > len(datagram) {
		return h, nil, fmt.Errorf("%w: its size %d is not between %d and the datagram's %d", ErrHeader, h.Size, HeaderSize, len(datagram))
	}
	return h, datagram[h.Size:], nil
}

// appendHeader is the inverse of ParseHeader.
func appendHeader(dst []byte, t Type, dropped uint32) []byte {
	dst = binary.LittleEndian.AppendUint16(dst, HeaderSize)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(t))
	return binary.LittleEndian.AppendUint32(dst, dropped)
}

// Versions of the protocol. Each side states one. A side that is newer adapts to
// the other; a peer older than MinVersion is refused.
const (
	Version    = 1
	MinVersion = 1
)

// handshake is the first datagram each way. It has no header.
type handshake struct{ version uint32 }

func (h *handshake) fields(c *coder) { integer(c, 1, &h.version) }

// AppendHandshake appends our handshake.
func AppendHandshake(dst []byte) []byte {
	var c coder
	return c.encode(dst, &handshake{version: Version})
}

// ParseHandshake reads the peer's handshake and refuses one that is too old.
func ParseHandshake(datagram []byte) (version uint32, err error) {
	if len(datagram) >= MaxHandshake {
		return 0, fmt.Errorf("%w: %d bytes, want fewer than %d", ErrHandshake, len(datagram), MaxHandshake)
	}
	var h handshake
	if err := newCoder().decode(datagram, &h); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	if h.version < MinVersion {
		return h.version, fmt.Errorf("%w: %d, want %d or newer", ErrVersion, h.version, MinVersion)
	}
	return h.version, nil
}
