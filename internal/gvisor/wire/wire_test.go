package wire

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
)

func TestHandshake(t *testing.T) {
	if got := AppendHandshake(nil); !bytes.Equal(got, []byte{0x08, 0x01}) {
		t.Errorf("our handshake is % x, want 08 01", got)
	}
	for _, test := range []struct {
		name, datagram string
		version        uint32
		err            error
	}{
		{"ours", "\x08\x01", 1, nil},
		{"newer", "\x08\x02", 2, nil},
		{"more fields", "\x08\x01\x12\x01x", 1, nil},
		{"version 0", "\x08\x00", 0, ErrVersion},
		{"none", "", 0, ErrVersion},
		{"garbage", "\xff\xff", 0, ErrHandshake},
		{"largest", "\x08\x01\x12" + string(protowire.AppendVarint(nil, MaxHandshake-6)) + strings.Repeat("x", MaxHandshake-6), 1, nil},
		{"too large", strings.Repeat("\x08\x01", MaxHandshake/2), 0, ErrHandshake},
	} {
		t.Run(test.name, func(t *testing.T) {
			if version, err := ParseHandshake([]byte(test.datagram)); version != test.version || !errors.Is(err, test.err) {
				t.Errorf("ParseHandshake = %d, %v, want %d, %v", version, err, test.version, test.err)
			}
		})
	}
}

func TestDecodeFaults(t *testing.T) {
	for _, test := range []struct {
		name, datagram string
		err            error
	}{
		{"nothing", "", ErrHeader},
		{"seven bytes", "\x08\x00\x07\x00\x00\x00\x00", ErrHeader},
		{"eight bytes", "\x08\x00\x07\x00\x00\x00\x00\x00", nil},
		{"small header", "\x07\x00\x07\x00\x00\x00\x00\x00", ErrHeader},
		{"larger header", "\x0a\x00\x07\x00\x00\x00\x00\x00..\x18\x02", nil},
		{"header beyond the end", "\x09\x00\x07\x00\x00\x00\x00\x00", ErrHeader},
		{"type 0", "\x08\x00\x00\x00\x00\x00\x00\x00", ErrType},
		{"last type", "\x08\x00\x26\x00\x00\x00\x00\x00", nil},
		{"type beyond", "\x08\x00\x27\x00\x00\x00\x00\x00", ErrType},
		{"tag cut off", "\x08\x00\x07\x00\x00\x00\x00\x00\x80", ErrPayload},
		{"value cut off", "\x08\x00\x07\x00\x00\x00\x00\x00\x1a\x02x", ErrPayload},
		{"malformed context", "\x08\x00\x07\x00\x00\x00\x00\x00\x0a\x01\x80", ErrPayload},
		{"malformed credentials", "\x08\x00\x07\x00\x00\x00\x00\x00\x0a\x03\x3a\x01\x80", ErrPayload},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, m, err := NewDecoder().Decode([]byte(test.datagram)); !errors.Is(err, test.err) || (m == nil) == (err == nil) {
				t.Errorf("Decode = %v, %v, want %v", m, err, test.err)
			}
		})
	}
}

// TestUnknownFields: what a later version has more is skipped, whatever its type,
// and so is a field that comes with another type than its own.
func TestUnknownFields(t *testing.T) {
	want := &Open{Call: Call{Sysno: 257}, Pathname: []byte("/etc/passwd")}
	datagram := datagramOf(want, 3)
	for _, number := range []protowire.Number{9, maxNumber + 1, protowire.MaxValidNumber} {
		datagram = protowire.AppendVarint(protowire.AppendTag(datagram, number, protowire.VarintType), 1)
		datagram = protowire.AppendFixed32(protowire.AppendTag(datagram, number, protowire.Fixed32Type), 1)
		datagram = protowire.AppendFixed64(protowire.AppendTag(datagram, number, protowire.Fixed64Type), 1)
		datagram = protowire.AppendString(protowire.AppendTag(datagram, number, protowire.BytesType), "x")
		datagram = protowire.AppendGroup(protowire.AppendTag(datagram, number, protowire.StartGroupType), number, []byte{0x08, 0x01})
	}
	datagram = protowire.AppendString(protowire.AppendTag(datagram, 3, protowire.BytesType), "not a number")
	datagram = protowire.AppendVarint(protowire.AppendTag(datagram, 6, protowire.VarintType), 1)
	_, m, err := NewDecoder().Decode(datagram)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("message (-sent +decoded):\n%s", diff)
	}
}

// TestRepeatedFields: of a scalar that comes twice the last counts, and a part
// that comes twice is merged.
func TestRepeatedFields(t *testing.T) {
	first := &Open{Call: Call{Sysno: 1, Origin: Origin{HasContextData: true, ContextData: Context{ThreadID: 7, Cwd: []byte("/a")}}}}
	second := &Open{Call: Call{Sysno: 2, Origin: Origin{HasContextData: true, ContextData: Context{TimeNs: 9, Cwd: []byte("/b")}}}}
	datagram := new(coder).encode(datagramOf(first, 0), second)
	_, m, err := NewDecoder().Decode(datagram)
	if err != nil {
		t.Fatal(err)
	}
	open := m.(*Open)
	if c := open.ContextData; open.Sysno != 2 || c.ThreadID != 7 || c.TimeNs != 9 || string(c.Cwd) != "/b" {
		t.Errorf("merged %+v", open)
	}
}

// TestDecoderForgets: nothing of a message is left in the next of its type.
func TestDecoderForgets(t *testing.T) {
	d := NewDecoder()
	for _, g := range readGolden(t) {
		h, _, err := d.Decode(g.datagram)
		if err != nil {
			t.Fatal(err)
		}
		_, m, err := d.Decode(datagramOf(h.Type.New(), 0))
		if err != nil {
			t.Fatal(err)
		}
		if left := values(nil, "", reflect.ValueOf(m).Elem()); len(left) > 0 {
			t.Errorf("%s: %q is left", g.name, left)
		}
	}
}

func TestMaxList(t *testing.T) {
	m := &SentryExec{Argv: slices.Repeat([][]byte{[]byte("x")}, MaxList), Env: [][]byte{[]byte("y")}}
	d := NewDecoder()
	for more := range 3 {
		_, got, err := d.Decode(datagramOf(m, 0))
		if err != nil {
			t.Fatal(err)
		}
		if exec := got.(*SentryExec); len(exec.Argv) != MaxList || len(exec.Env) != 1 || d.Cut() != more {
			t.Errorf("of %d strings %d were decoded and %d cut", MaxList+more, len(exec.Argv), d.Cut())
		}
		m.Argv = append(m.Argv, nil)
	}
}

// TestInvalidUTF8: text is taken as it comes; protobuf's own decoders refuse the
// message.
func TestInvalidUTF8(t *testing.T) {
	_, m, err := NewDecoder().Decode(datagramOf(&Chroot{Pathname: []byte("/\xff")}, 0))
	if err != nil || string(m.(*Chroot).Pathname) != "/\xff" {
		t.Errorf("Decode = %v, %v", m, err)
	}
}

// TestAllocations: neither way allocates once the decoder has seen the type.
func TestAllocations(t *testing.T) {
	d, e := NewDecoder(), new(Encoder)
	buffer := make([]byte, 0, 4096)
	for _, g := range readGolden(t) {
		again := func() {
			_, m, err := d.Decode(g.datagram)
			if err != nil {
				t.Fatal(err)
			}
			buffer = e.Append(buffer[:0], m, 0)
		}
		again()
		if n := testing.AllocsPerRun(20, again); n != 0 {
			t.Errorf("%s: %v allocations", g.name, n)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, g := range readGolden(b) {
		if g.name != "syscall_execve/small" && g.name != "sentry_exec/large" && g.name != "syscall_close/small" {
			continue
		}
		b.Run(g.name, func(b *testing.B) {
			d := NewDecoder()
			b.SetBytes(int64(len(g.datagram)))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := d.Decode(g.datagram); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
