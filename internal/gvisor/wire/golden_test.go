package wire

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// golden is one message of testdata/messages.txt. The bytes there were made by
// protobuf's own encoder from gVisor's definitions, and the values read from
// them by its reflection, so that neither comes from this package. crosscheck
// does the same again.
type golden struct {
	name     string
	values   []string // of all fields present, "contextdata.threadid=7"
	datagram []byte
}

func readGolden(tb testing.TB) []golden {
	tb.Helper()
	text, err := os.ReadFile("testdata/messages.txt")
	if err != nil {
		tb.Fatal(err)
	}
	var all []golden
	for block := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n\n") {
		lines := strings.Split(block, "\n")
		g := golden{name: lines[0]}
		for _, line := range lines[1 : len(lines)-1] {
			g.values = append(g.values, strings.TrimSpace(line))
		}
		if g.datagram, err = hex.DecodeString(strings.ReplaceAll(lines[len(lines)-1], " ", "")); err != nil {
			tb.Fatalf("%s: %v", g.name, err)
		}
		all = append(all, g)
	}
	return all
}

func datagramOf(m Message, dropped uint32) []byte { return new(Encoder).Append(nil, m, dropped) }

// TestGolden: every message reads as it was meant, and is written as it was read.
func TestGolden(t *testing.T) {
	seen := map[Type]bool{}
	d := NewDecoder()
	for _, g := range readGolden(t) {
		t.Run(g.name, func(t *testing.T) {
			h, m, err := d.Decode(g.datagram)
			if err != nil {
				t.Fatal(err)
			}
			seen[h.Type] = true
			if name, _, _ := strings.Cut(g.name, "/"); h.Type.String() != name || h.Size != HeaderSize || m.MessageType() != h.Type {
				t.Errorf("header %+v of a %s, message %v", h, name, m.MessageType())
			}
			if diff := cmp.Diff(g.values, values(nil, "", reflect.ValueOf(m).Elem())); diff != "" {
				t.Errorf("values (-golden +decoded):\n%s", diff)
			}
			if again := new(Encoder).Append([]byte("before"), m, h.Dropped); !bytes.Equal(again[6:], g.datagram) {
				t.Errorf("encoded  % x\nis not   % x", again[6:], g.datagram)
			}
		})
	}
	for typ := TypeContainerStart; int(typ) < Types; typ++ {
		if !seen[typ] {
			t.Errorf("no golden message of type %v", typ)
		}
	}
}

// values lists the fields of a message that are present, by the names that the
// protocol has for them without their underscores.
func values(all []string, prefix string, v reflect.Value) []string {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		name, f := prefix+strings.ToLower(field.Name), v.Field(i)
		switch {
		case field.Anonymous:
			all = values(all, prefix, f)
		case strings.HasPrefix(field.Name, "Has") && field.Name != "HasOffset": // HasOffset is a field of the protocol
		case f.Kind() == reflect.Struct:
			if v.FieldByName("Has" + field.Name).Bool() {
				all = values(append(all, name), name+".", f)
			}
		case f.Type() == reflect.TypeFor[[]byte]():
			if f.Len() > 0 {
				all = append(all, name+"="+strconv.Quote(string(f.Bytes())))
			}
		case f.Kind() == reflect.Slice:
			for _, s := range f.Interface().([][]byte) {
				all = append(all, name+"="+strconv.Quote(string(s)))
			}
		case !f.IsZero():
			all = append(all, fmt.Sprintf("%s=%v", name, f.Interface()))
		}
	}
	return all
}
