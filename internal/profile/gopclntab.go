package profile

import (
	"encoding/binary"
	"errors"
	"io"
	"sort"
)

// goTable is Go's own table of functions, which is there in binaries without symbols,
// too. It is read where it lies, a few bytes for each look-up: debug/gosym would build
// every function of a binary in memory, some 40 MiB for a large one. The tests compare
// it with debug/gosym, function by function.
type goTable struct {
	r         io.ReaderAt
	order     binary.ByteOrder
	text      uint64 // address that functions are counted from
	functions int
	names     int64 // offset of the names
	entries   int64 // offset of the table of functions
}

// Versions of the table, from Go 1.18 and 1.20 on. Older binaries show addresses.
const (
	goTable118 = 0xfffffff0
	goTable120 = 0xfffffff1
)

var errGoTable = errors.New("no table of Go functions from 1.18 or later")

// newGoTable reads the header of a .gopclntab section. text is the address of the
// binary's code, which newer tables do not tell.
func newGoTable(r io.ReaderAt, order binary.ByteOrder, text uint64) (*goTable, error) {
	var header [8 + 8*8]byte
	if _, err := r.ReadAt(header[:], 0); err != nil {
		return nil, errGoTable
	}
	if magic := order.Uint32(header[:]); magic != goTable118 && magic != goTable120 || header[7] != 8 {
		return nil, errGoTable
	}
	word := func(i int) uint64 { return order.Uint64(header[8+8*i:]) }
	t := &goTable{r: r, order: order, text: text, functions: int(word(0)), names: int64(word(3)), entries: int64(word(7))}
	if begin := word(2); begin != 0 {
		t.text = begin
	}
	if t.functions < 0 || t.names < 0 || t.entries < 0 {
		return nil, errGoTable
	}
	return t, nil
}

// name returns the function at an address, "" for none.
func (t *goTable) name(address uint64) string {
	if address < t.text || address-t.text >= 1<<32 {
		return ""
	}
	at := uint32(address - t.text)
	// one more entry than functions: its begin is the end of the last
	i := sort.Search(t.functions+1, func(i int) bool { return t.word(t.entries+8*int64(i)) > at })
	if i == 0 || i > t.functions {
		return ""
	}
	function := t.entries + int64(t.word(t.entries+8*int64(i-1)+4))
	return text(t.r, t.names+int64(int32(t.word(function+4))))
}

// word reads 32 bits; past the end they are 0.
func (t *goTable) word(offset int64) uint32 {
	var b [4]byte
	if _, err := t.r.ReadAt(b[:], offset); err != nil {
		return 0
	}
	return t.order.Uint32(b[:])
}
