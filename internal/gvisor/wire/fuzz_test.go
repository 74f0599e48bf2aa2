package wire

import (
	"bytes"
	"errors"
	"testing"
)

// FuzzDecode: no datagram harms the decoder, each fault has a name, and what was
// decoded is the same after it has been sent once more.
func FuzzDecode(f *testing.F) {
	for _, g := range readGolden(f) {
		f.Add(g.datagram)
	}
	first, second := NewDecoder(), NewDecoder()
	f.Fuzz(func(t *testing.T, datagram []byte) {
		h, m, err := first.Decode(datagram)
		if err != nil {
			if !errors.Is(err, ErrHeader) && !errors.Is(err, ErrType) && !errors.Is(err, ErrPayload) {
				t.Fatalf("a fault without a name: %v", err)
			}
			return
		}
		once := datagramOf(m, h.Dropped)
		again, m, err := second.Decode(once)
		if err != nil {
			t.Fatalf("decode what we encoded: %v", err)
		}
		if again.Type != h.Type || again.Dropped != h.Dropped {
			t.Fatalf("header %+v became %+v", h, again)
		}
		if twice := datagramOf(m, h.Dropped); !bytes.Equal(once, twice) {
			t.Fatalf("encoded once  % x\nencoded twice % x", once, twice)
		}
	})
}

func FuzzHandshake(f *testing.F) {
	for _, seed := range []string{"", "\x08\x01", "\x08\x00", "\x08\xff\xff\xff\xff\x0f", "\x0a\x01\x08"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, datagram []byte) {
		version, err := ParseHandshake(datagram)
		if (err == nil) != (version >= MinVersion) {
			t.Fatalf("ParseHandshake = %d, %v", version, err)
		}
	})
}
