package procfs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// MaxMappings bounds what Mappings returns. The kernel allows 65530 mappings of all
// kinds (vm.max_map_count); of code there are some dozens.
const MaxMappings = 4096

// Mapping is a part of an address space that holds code.
type Mapping struct {
	Start, End uint64 // addresses
	Offset     uint64 // of Start in the file
	Device     uint64 // of the file's file system, as Mount has it
	Inode      uint64 // of the file; 0 for none
	Path       string // as the process sees it; "[vdso]" and the like; empty for memory without a name
}

// Mappings reads the mappings of a process that may be executed, ordered by address.
func (f FS) Mappings(pid uint32) ([]Mapping, error) {
	return parsed(filepath.Join(f.proc, strconv.FormatUint(uint64(pid), 10), "maps"), parseMappings)
}

func parseMappings(r io.Reader) ([]Mapping, error) {
	var all []Mapping
	lines := bufio.NewScanner(r)
	for lines.Scan() && len(all) < MaxMappings {
		m, code, err := parseMapping(lines.Text())
		if err != nil {
			return nil, err
		}
		if code {
			all = append(all, m)
		}
	}
	return all, lines.Err()
}

// parseMapping reads a line such as
// "7f0c1a000-7f0c1b000 r-xp 00002000 08:01 173521   /usr/lib/libc.so.6".
func parseMapping(line string) (m Mapping, code bool, err error) {
	var fields [5]string
	rest := line
	for i := range fields {
		fields[i], rest, _ = strings.Cut(rest, " ")
	}
	if len(fields[1]) < 3 || fields[1][2] != 'x' {
		return m, false, nil
	}
	start, end, _ := strings.Cut(fields[0], "-")
	for _, number := range []struct {
		text string
		dst  *uint64
	}{{start, &m.Start}, {end, &m.End}, {fields[2], &m.Offset}} {
		if *number.dst, err = strconv.ParseUint(number.text, 16, 64); err != nil {
			return m, false, fmt.Errorf("mapping %q: %w", line, err)
		}
	}
	m.Path = strings.TrimLeft(rest, " ")
	if m.Inode, err = strconv.ParseUint(fields[4], 10, 64); err != nil {
		return m, false, fmt.Errorf("mapping %q: %w", line, err)
	}
	major, minor, _ := strings.Cut(fields[3], ":")
	high, err1 := strconv.ParseUint(major, 16, 32)
	low, err2 := strconv.ParseUint(minor, 16, 32)
	if err := errors.Join(err1, err2); err != nil {
		return m, false, fmt.Errorf("mapping %q: device: %w", line, err)
	}
	m.Device = unix.Mkdev(uint32(high), uint32(low))
	return m, true, nil
}
