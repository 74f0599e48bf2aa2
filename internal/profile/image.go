package profile

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"

	"github.com/ianlancetaylor/demangle"
)

// Bounds of what is read of a file that belongs to somebody else.
const (
	maxSymbols = 1 << 22 // of one table; the largest binaries have a fifth of it
	maxName    = 4096    // bytes of a symbol's name
	maxNote    = 4096    // bytes of a note
)

// image is a file with code in it: a program or a library. Its addresses are those
// it was linked for, the same in every process.
type image struct {
	path    string
	buildID string
	file    *elf.File
	close   func() error
}

// segment is a part of an image that is mapped to be executed.
type segment struct{ start, limit, offset uint64 }

var errDamaged = errors.New("damaged")

// openImage reads the headers of an ELF file and keeps it open. It belongs to
// whoever was looked at: whatever is in it, it only is not understood.
func openImage(f *os.File, path string) (i *image, err error) {
	defer func() {
		if recover() != nil { // debug/elf is not made for files that mean harm
			err = errDamaged
		}
		if err != nil {
			i, err = nil, errors.Join(fmt.Errorf("read %s: %w", path, err), f.Close())
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("no regular file")
	}
	parsed, err := elf.NewFile(f)
	if err != nil {
		return nil, err
	}
	return &image{path: path, file: parsed, buildID: buildID(parsed), close: f.Close}, nil
}

// address translates an offset in the file and says which segment it is in.
func (i *image) address(offset uint64) (address uint64, s segment, ok bool) {
	for _, p := range i.file.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 && offset >= p.Off && offset-p.Off < p.Filesz {
			return offset - p.Off + p.Vaddr, segment{p.Vaddr, p.Vaddr + p.Memsz, p.Off}, true
		}
	}
	return 0, segment{}, false
}

// buildID returns what the linker has put in to tell this build from others.
func buildID(f *elf.File) string {
	for _, p := range f.Progs {
		if p.Type != elf.PT_NOTE {
			continue
		}
		raw := make([]byte, min(p.Filesz, maxNote))
		if n, err := p.ReadAt(raw, 0); err != nil && !errors.Is(err, io.EOF) || n < len(raw) {
			continue
		}
		if id := gnuBuildID(raw, f.ByteOrder.Uint32); id != "" {
			return id
		}
	}
	return ""
}

// gnuBuildID finds the note that holds a build id, in hexadecimal.
func gnuBuildID(notes []byte, word func([]byte) uint32) string {
	const gnuBuildIDNote = 3
	for len(notes) >= 12 {
		name, size, kind := int(word(notes)), int(word(notes[4:])), word(notes[8:])
		notes = notes[12:]
		padded := (name + 3) &^ 3
		if name < 0 || size < 0 || padded < 0 || padded > len(notes) || size > len(notes)-padded {
			return ""
		}
		if kind == gnuBuildIDNote && string(notes[:name]) == "GNU\x00" {
			return hex.EncodeToString(notes[padded : padded+size])
		}
		notes = notes[min(padded+(size+3)&^3, len(notes)):]
	}
	return ""
}

// names returns the functions at some addresses, which must be sorted; "" where there
// is none. The tables are read in pieces and nothing of them is kept but what was
// asked for.
func (i *image) names(addresses []uint64) (names []string) {
	names = make([]string, len(addresses))
	defer func() { _ = recover() }() // as in openImage: what was found so far is right
	table := i.file.SectionByType(elf.SHT_SYMTAB)
	if table == nil {
		table = i.file.SectionByType(elf.SHT_DYNSYM)
	}
	if table != nil && i.file.Class == elf.ELFCLASS64 && int(table.Link) < len(i.file.Sections) {
		i.fromSymbols(table, i.file.Sections[table.Link], addresses, names)
	}
	i.fromGo(addresses, names)
	return names
}

// symbol is where a function lies and where its name stands.
type symbol struct {
	value, size uint64
	name        uint32
}

// fromSymbols fills names from an ELF symbol table. For every symbol the first
// address at or after its begin remembers the nearest; what no symbol begins right
// before inherits from the address below.
func (i *image) fromSymbols(table, strings *elf.Section, addresses []uint64, names []string) {
	best := make([]symbol, len(addresses))
	_ = eachSymbol(table.Open(), i.file.ByteOrder.Uint32, i.file.ByteOrder.Uint64, func(s symbol) {
		at := sort.Search(len(addresses), func(j int) bool { return addresses[j] >= s.value })
		if at < len(best) && (s.value > best[at].value || s.value == best[at].value && s.size > best[at].size) {
			best[at] = s
		}
	}) // what could be read is right
	for j := range best {
		if j > 0 && best[j-1].value > best[j].value {
			best[j] = best[j-1]
		}
		if s := best[j]; s.value != 0 && (s.size == 0 || addresses[j]-s.value < s.size) {
			names[j] = text(strings, int64(s.name))
		}
	}
}

// eachSymbol yields the functions of a symbol table of 64 bits.
func eachSymbol(r io.Reader, word func([]byte) uint32, long func([]byte) uint64, yield func(symbol)) error {
	const size, perRead = 24, 1024
	buffer := make([]byte, size*perRead)
	for range maxSymbols / perRead {
		n, err := io.ReadFull(r, buffer)
		for raw := buffer[:n]; len(raw) >= size; raw = raw[size:] {
			kind, section := elf.ST_TYPE(raw[4]), uint16(word(raw[4:])>>16)
			if (kind == elf.STT_FUNC || kind == elf.STT_GNU_IFUNC) && section != 0 {
				yield(symbol{value: long(raw[8:]), size: long(raw[16:]), name: word(raw)})
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fromGo fills what is missing from Go's table of functions.
func (i *image) fromGo(addresses []uint64, names []string) {
	section := i.file.Section(".gopclntab")
	if section == nil {
		section = i.file.Section(".data.rel.ro.gopclntab")
	}
	code := i.file.Section(".text")
	if section == nil || code == nil || !slices.Contains(names, "") {
		return
	}
	t, err := newGoTable(section, i.file.ByteOrder, code.Addr)
	if err != nil {
		return
	}
	for j, address := range addresses {
		names[j] = cmp.Or(names[j], t.name(address))
	}
}

// text reads a text that ends with NUL.
func text(r io.ReaderAt, offset int64) string {
	var all []byte
	for len(all) < maxName {
		var piece [64]byte
		n, _ := r.ReadAt(piece[:], offset+int64(len(all)))
		if n <= 0 {
			return ""
		}
		if end := bytes.IndexByte(piece[:n], 0); end >= 0 {
			return string(append(all, piece[:end]...))
		}
		all = append(all, piece[:n]...)
	}
	return ""
}

// readable is a function's name as its author wrote it: of C++ and Rust without what
// the linker needs.
func readable(name string) string { return demangle.Filter(name, demangle.NoParams) }
