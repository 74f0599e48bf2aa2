package procfs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
)

// unlimitedV1 is the smallest value that v1 uses for "no limit":
// PAGE_COUNTER_MAX pages, rounded to 64 KiB pages so that it holds on arm64 too.
const unlimitedV1 = 0x7FFFFFFFFFFF0000

// Memory is what the memory controller says about a cgroup. Sizes are bytes;
// nil means that this kernel does not keep the number (or that there is none).
type Memory struct {
	// Limit is the smallest hard limit of the cgroup and its ancestors, as far
	// as they are visible; nil where nothing limits.
	Limit *uint64
	Usage *uint64 // charged now, page cache included
	Peak  *uint64 // v2: since Linux 5.19
	// Events are monotonic since the cgroup was made: low, high, max, oom,
	// oom_kill, … on v2, failcnt and oom_kill on v1. The order is the kernel's.
	Events []Count
}

// Count is a number with a name, as flat keyed files have them.
type Count struct {
	Name  string
	Value uint64
}

// SelfMemory reads the memory controller of the sensor's own cgroup.
func (f FS) SelfMemory() (Memory, error) {
	cg, err := f.SelfCgroup("memory")
	if err != nil {
		return Memory{}, err
	}
	return cg.Memory()
}

// Memory reads the files of the memory controller. Files that do not exist
// leave their field nil; the root cgroup has none of them on v2.
func (c Cgroup) Memory() (Memory, error) {
	if c.Version == V1 {
		return c.memoryV1()
	}
	return c.memoryV2()
}

func (c Cgroup) memoryV2() (Memory, error) {
	var m Memory
	var errs [4]error
	m.Limit, errs[0] = c.lowest("memory.max", parseLimitV2)
	m.Usage, errs[1] = optional(parsed(filepath.Join(c.Dir, "memory.current"), parseNumber))
	m.Peak, errs[2] = optional(parsed(filepath.Join(c.Dir, "memory.peak"), parseNumber))
	m.Events, errs[3] = some(parsed(filepath.Join(c.Dir, "memory.events"), parseFlat))
	return m, errors.Join(errs[:]...)
}

func (c Cgroup) memoryV1() (Memory, error) {
	var m Memory
	var errs [5]error
	m.Limit, errs[0] = c.limitV1()
	m.Usage, errs[1] = optional(parsed(filepath.Join(c.Dir, "memory.usage_in_bytes"), parseNumber))
	m.Peak, errs[2] = optional(parsed(filepath.Join(c.Dir, "memory.max_usage_in_bytes"), parseNumber))
	failcnt, err := optional(parsed(filepath.Join(c.Dir, "memory.failcnt"), parseNumber))
	errs[3] = err
	if failcnt != nil {
		m.Events = append(m.Events, Count{"failcnt", *failcnt})
	}
	control, err := some(parsed(filepath.Join(c.Dir, "memory.oom_control"), parseFlat))
	errs[4] = err
	for _, n := range control {
		if n.Name == "oom_kill" { // the others are switches; kept since Linux 4.13
			m.Events = append(m.Events, n)
		}
	}
	return m, errors.Join(errs[:]...)
}

// limitV1 prefers hierarchical_memory_limit, which counts ancestors outside of
// a container's view too; the walk over visible ancestors is the fallback.
func (c Cgroup) limitV1() (*uint64, error) {
	stat, err := some(parsed(filepath.Join(c.Dir, "memory.stat"), parseFlat))
	if err != nil {
		return nil, err
	}
	for _, n := range stat {
		if n.Name == "hierarchical_memory_limit" {
			return limited(n.Value), nil
		}
	}
	return c.lowest("memory.limit_in_bytes", func(r io.Reader) (*uint64, error) {
		n, err := parseNumber(r)
		return limited(n), err
	})
}

func limited(n uint64) *uint64 {
	if n >= unlimitedV1 {
		return nil
	}
	return &n
}

// lowest returns the smallest limit from the cgroup up to the uppermost
// visible directory.
func (c Cgroup) lowest(file string, parse func(io.Reader) (*uint64, error)) (*uint64, error) {
	var low *uint64
	for dir := c.Dir; ; dir = filepath.Dir(dir) {
		limit, err := parsed(filepath.Join(dir, file), parse)
		if err != nil && !errors.Is(err, ErrNoData) {
			return nil, err
		}
		if limit != nil && (low == nil || *limit < *low) {
			low = limit
		}
		if dir == c.top || len(dir) <= len(c.top) {
			return low, nil
		}
	}
}

// parseLimitV2 reads a number or "max", which is nil.
func parseLimitV2(r io.Reader) (*uint64, error) {
	text, err := parseText(r)
	if err != nil || text == "max" {
		return nil, err
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return &n, err
}

// parseFlat reads the kernel's flat keyed format: one "name number" per line.
// Names with other than one number are skipped: kernels add such lines.
func parseFlat(r io.Reader) ([]Count, error) {
	var counts []Count
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		parts := strings.Fields(lines.Text())
		if len(parts) != 2 {
			continue
		}
		n, err := strconv.ParseUint(parts[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("line %q: %w", lines.Text(), err)
		}
		counts = append(counts, Count{parts[0], n})
	}
	return counts, lines.Err()
}

// some turns "not kept here" into an empty list.
func some(counts []Count, err error) ([]Count, error) {
	if errors.Is(err, ErrNoData) {
		return nil, nil
	}
	return counts, err
}
