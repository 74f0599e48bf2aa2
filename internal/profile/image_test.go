package profile

import (
	"debug/elf"
	"debug/gosym"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// builtProgram compiles a small Go program and returns its path.
func builtProgram(t *testing.T, flags ...string) string {
	t.Helper()
	dir := t.TempDir()
	source, out := filepath.Join(dir, "main.go"), filepath.Join(dir, "program")
	code := "package main\n\n//go:noinline\nfunc spinHere(n int) (m int) {\n\tfor i := range n {\n\t\tm += i * m\n\t}\n\treturn m\n}\n\nfunc main() { println(spinHere(1000)) }\n"
	if err := os.WriteFile(source, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", append(append([]string{"build", "-o", out}, flags...), source)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, text)
	}
	return out
}

func opened(t *testing.T, path string) *image {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	i, err := openImage(f, path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.close() })
	return i
}

// TestGoNames compares our reader of Go's table with debug/gosym's, for the begin,
// the last byte and what is before the first of every function of a program without
// symbols.
func TestGoNames(t *testing.T) {
	i := opened(t, builtProgram(t, "-ldflags=-s -w"))
	if i.file.Section(".symtab") != nil {
		t.Fatal("the program has symbols")
	}
	raw, err := i.file.Section(".gopclntab").Data()
	if err != nil {
		t.Fatal(err)
	}
	code := i.file.Section(".text")
	table, err := gosym.NewTable(nil, gosym.NewLineTable(raw, code.Addr))
	if err != nil {
		t.Fatal(err)
	}
	var addresses []uint64
	var want []string
	for _, f := range table.Funcs {
		addresses = append(addresses, f.Entry, f.End-1)
		want = append(want, f.Name, f.Name)
	}
	if len(want) < 1000 || !slices.Contains(want, "main.spinHere") {
		t.Fatalf("only %d functions", len(want))
	}
	if diff := cmp.Diff(want, i.names(addresses)); diff != "" {
		t.Errorf("names differ (-gosym +ours):\n%.2000s", diff)
	}
	if got := i.names([]uint64{0, code.Addr - 1, 1 << 62}); !slices.Equal(got, []string{"", "", ""}) {
		t.Errorf("outside of the code: %q", got)
	}
}

// TestSymbolNames compares our reader of symbol tables with debug/elf's.
func TestSymbolNames(t *testing.T) {
	i := opened(t, builtProgram(t))
	symbols, err := i.file.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(symbols, func(a, b elf.Symbol) int { return int(a.Value) - int(b.Value) })
	names := map[uint64][]string{} // two functions may share an address
	var addresses []uint64
	for _, s := range symbols {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC && s.Size > 0 {
			addresses = append(addresses, s.Value+s.Size-1)
			names[s.Value+s.Size-1] = append(names[s.Value+s.Size-1], s.Name)
		}
	}
	slices.Sort(addresses)
	for j, name := range i.names(addresses) {
		if !slices.Contains(names[addresses[j]], name) {
			t.Errorf("%#x is %q, want one of %q", addresses[j], name, names[addresses[j]])
		}
	}
	if len(addresses) < 1000 {
		t.Errorf("only %d functions", len(addresses))
	}
	segment := i.file.Progs[slices.IndexFunc(i.file.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 })]
	if got, _, ok := i.address(segment.Off + 17); !ok || got != segment.Vaddr+17 {
		t.Errorf("offset %#x is address %#x, %v", segment.Off+17, got, ok)
	}
	if _, _, ok := i.address(1 << 60); ok {
		t.Error("an offset past the end has an address")
	}
}

// FuzzImage: files belong to somebody else and may be anything.
func FuzzImage(f *testing.F) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(self[:4096])
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		i, err := openImage(file, path)
		if err != nil {
			return
		}
		defer i.close()
		i.address(4096)
		if got := i.names([]uint64{1, 4096, 1 << 40}); len(got) != 3 {
			t.Errorf("%d names for 3 addresses", len(got))
		}
	})
}

// A directory and a device are no images.
func TestNoImage(t *testing.T) {
	for _, path := range []string{"/dev/null", "/", "/proc/self/status"} {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if i, err := openImage(f, path); err == nil || i != nil {
			t.Errorf("%s: %v, %v", path, i, err)
		}
		if err := f.Close(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s was left open", path)
		}
	}
}

func TestBuildID(t *testing.T) {
	note := func(kind uint32, name, content string) []byte {
		var b []byte
		for _, n := range []uint32{uint32(len(name)), uint32(len(content)), kind} {
			b = binary.NativeEndian.AppendUint32(b, n)
		}
		pad := func(s string) string { return s + strings.Repeat("\x00", -len(s)&3) }
		return append(b, pad(name)+pad(content)...)
	}
	other, id := note(1, "Linux\x00", "xyz"), note(3, "GNU\x00", "\x01\xab\xff")
	for _, test := range []struct {
		notes []byte
		want  string
	}{
		{append(slices.Clone(other), id...), "01abff"},
		{other, ""},
		{id[:len(id)-3], ""},
		{nil, ""},
		{note(3, "GNU\x00", "")[:12], ""},
		{append(binary.NativeEndian.AppendUint32(nil, 0xfffffffe), make([]byte, 20)...), ""},
	} {
		if got := gnuBuildID(test.notes, binary.NativeEndian.Uint32); got != test.want {
			t.Errorf("%x: %q, want %q", test.notes, got, test.want)
		}
	}
}

func TestKallsyms(t *testing.T) {
	const list = `0000000000000000 A fixed_percpu_data
ffffffff81000000 T _stext
ffffffff81000100 t do_idle
ffffffff81000180 d no_code
ffffffff81000200 W weak_one
ffffffffc0001000 t nft_do_chain	[nf_tables]
ffffffffc0002000 t bpf_prog_6deef7357e7b4530_on_cpu	[bpf]
`
	got, err := parseKallsyms(strings.NewReader(list), []uint64{
		0xffffffff80ffffff, 0xffffffff81000100, 0xffffffff810001ff, 0xffffffff81000250, 0xffffffffc0001001, 0xffffffffc0002fff,
	})
	want := []kernelName{{}, {"do_idle", ""}, {"do_idle", ""}, {"weak_one", ""}, {"nft_do_chain", "nf_tables"}, {"bpf_prog_6deef7357e7b4530_on_cpu", "bpf"}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(kernelName{})); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	hidden, err := parseKallsyms(strings.NewReader("0000000000000000 T _stext\n"), []uint64{0xffffffff81000000})
	if err != nil || hidden[0] != (kernelName{}) {
		t.Errorf("hidden addresses: %v, %v", hidden, err)
	}
	if _, err := parseKallsyms(strings.NewReader("nonsense T x\n"), []uint64{1}); err == nil {
		t.Error("nonsense is accepted")
	}
}

func TestReadable(t *testing.T) {
	for raw, want := range map[string]string{"_ZN3foo3barEi": "foo::bar", "main.main": "main.main", "_RNvCs1_4core3foo": "core::foo", "": ""} {
		if got := readable(raw); got != want {
			t.Errorf("%s is %q, want %q", raw, got, want)
		}
	}
}
