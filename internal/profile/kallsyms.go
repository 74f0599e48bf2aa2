package profile

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// kernelName is a function of the kernel and the module it is in, "" for the kernel
// itself.
type kernelName struct{ name, module string }

// kernelNames returns the functions at some addresses, which must be sorted. It reads
// the kernel's list of symbols once and keeps nothing of it but what was asked for.
// All of them are empty where the kernel hides addresses.
func kernelNames(proc string, addresses []uint64) ([]kernelName, error) {
	f, err := os.Open(filepath.Join(proc, "kallsyms"))
	if err != nil {
		return nil, fmt.Errorf("read kernel symbols: %w", err)
	}
	defer f.Close()
	names, err := parseKallsyms(f, addresses)
	if err != nil {
		return nil, fmt.Errorf("read kernel symbols: %w", err)
	}
	return names, nil
}

// parseKallsyms works as image.fromSymbols does.
func parseKallsyms(r io.Reader, addresses []uint64) ([]kernelName, error) {
	names, values := make([]kernelName, len(addresses)), make([]uint64, len(addresses))
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Bytes()
		end := 0
		for end < len(line) && line[end] != ' ' {
			end++
		}
		if end+3 >= len(line) || !code(line[end+1]) {
			continue
		}
		value, err := strconv.ParseUint(string(line[:end]), 16, 64)
		if err != nil {
			return nil, fmt.Errorf("line %q: %w", line, err)
		}
		at := sort.Search(len(addresses), func(i int) bool { return addresses[i] >= value })
		if at < len(values) && value > values[at] {
			name, module, _ := strings.Cut(string(line[end+3:]), "\t")
			values[at], names[at] = value, kernelName{name, strings.Trim(module, "[]")}
		}
	}
	for i := 1; i < len(values); i++ {
		if values[i-1] > values[i] {
			values[i], names[i] = values[i-1], names[i-1]
		}
	}
	return names, lines.Err()
}

// code reports whether a kind of symbol is code.
func code(kind byte) bool { return kind == 't' || kind == 'T' || kind == 'w' || kind == 'W' }

// kernelBuildID is that of the running kernel, "" where it does not tell.
func kernelBuildID(sys string) string {
	notes, err := os.ReadFile(filepath.Join(sys, "kernel", "notes"))
	if err != nil {
		return ""
	}
	return gnuBuildID(notes, binary.NativeEndian.Uint32)
}
