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

// Mount is one line of /proc/<pid>/mountinfo, as far as it is needed here.
type Mount struct {
	Device  uint64   // of the file system, as stat shows it
	Root    string   // the part of the file system that is mounted
	Point   string   // where it is mounted
	Type    string   // e.g. "cgroup2"
	Options []string // per super block; names the controllers of a v1 cgroup mount
}

// SelfMounts lists the mounts that this process sees, in the order in which
// they were made: a later one hides an earlier one at the same point.
func (f FS) SelfMounts() ([]Mount, error) {
	return parsed(filepath.Join(f.proc, "self", "mountinfo"), parseMountinfo)
}

// Mounts lists the mounts that a process sees, as SelfMounts does.
func (f FS) Mounts(pid uint32) ([]Mount, error) {
	return parsed(filepath.Join(f.proc, strconv.FormatUint(uint64(pid), 10), "mountinfo"), parseMountinfo)
}

func parseMountinfo(r io.Reader) ([]Mount, error) {
	var mounts []Mount
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20) // overlay mounts list many lower directories
	for lines.Scan() {
		if lines.Text() == "" {
			continue
		}
		m, err := parseMount(lines.Text())
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, m)
	}
	return mounts, lines.Err()
}

// parseMount splits "id parent dev root point options [optional…] - type source superoptions".
func parseMount(line string) (Mount, error) {
	before, after, ok := strings.Cut(line, " - ")
	left, right := strings.Fields(before), strings.Fields(after)
	if !ok || len(left) < 6 || len(right) < 2 {
		return Mount{}, fmt.Errorf("mountinfo line %q: too few fields", line)
	}
	major, minor, _ := strings.Cut(left[2], ":")
	high, err1 := strconv.ParseUint(major, 10, 32)
	low, err2 := strconv.ParseUint(minor, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return Mount{}, fmt.Errorf("mountinfo line %q: device: %w", line, err)
	}
	return Mount{
		Device: unix.Mkdev(uint32(high), uint32(low)),
		Root:   unescape(left[3]),
		Point:  unescape(left[4]),
		Type:   right[0],
		// The source may be empty, the options are not; they are always last.
		Options: strings.Split(right[len(right)-1], ","),
	}, nil
}

// unescape undoes the octal escapes of seq_path: blank, tab, newline, backslash.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace
