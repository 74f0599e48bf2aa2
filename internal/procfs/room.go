package procfs

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
)

// Room is how much of its memory limits the sensor's cgroup takes.
type Room struct {
	Limit uint64 // smallest hard limit of the cgroup and those above it, bytes
	// Share is the part of a limit that is taken by what the kernel cannot simply
	// drop: what is charged but for page cache that nobody has mapped. It is that of
	// the cgroup, own or above, where it is greatest.
	Share  float64
	Mapped uint64 // mapped page cache charged to the own cgroup, bytes
}

// SelfRoom reads the room of the sensor's own cgroup; where nothing limits it the
// error is ErrNoData.
func (f FS) SelfRoom() (Room, error) {
	cg, err := f.SelfCgroup("memory")
	if err != nil {
		return Room{}, err
	}
	return cg.Room()
}

// memoryFiles are the names that the two interfaces have for the same things.
type memoryFiles struct {
	limit, usage             string
	active, inactive, mapped string // lines of memory.stat, those below included
	parse                    func(io.Reader) (*uint64, error)
}

var memoryFilesOf = map[Version]memoryFiles{
	V1: {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_active_file", "total_inactive_file", "total_mapped_file", parseLimitV1},
	V2: {"memory.max", "memory.current", "active_file", "inactive_file", "file_mapped", parseLimitV2},
}

func parseLimitV1(r io.Reader) (*uint64, error) {
	n, err := parseNumber(r)
	return limited(n), err
}

// Room reads the limits from the cgroup upwards. It may be called often: it reads
// three small files for each cgroup that is visible.
func (c Cgroup) Room() (Room, error) {
	var room Room
	names := memoryFilesOf[c.Version]
	for dir := c.Dir; ; dir = filepath.Dir(dir) {
		if err := room.consider(dir, names, dir == c.Dir); err != nil {
			return room, err
		}
		if dir == c.top || len(dir) <= len(c.top) {
			break
		}
	}
	if room.Limit == 0 {
		return room, fmt.Errorf("find memory limit of %s: %w", c.Dir, ErrNoData)
	}
	return room, nil
}

// consider takes one cgroup into account. One without files, as the root, limits nothing.
func (r *Room) consider(dir string, names memoryFiles, own bool) error {
	limit, err := parsed(filepath.Join(dir, names.limit), names.parse)
	if err != nil && !errors.Is(err, ErrNoData) {
		return err
	}
	stat, err := some(parsed(filepath.Join(dir, "memory.stat"), parseFlat))
	if err != nil {
		return err
	}
	line := map[string]uint64{}
	for _, n := range stat {
		line[n.Name] = n.Value
	}
	if own {
		r.Mapped = line[names.mapped]
		// on v1 the kernel tells of cgroups above that cannot be seen
		if n, ok := line["hierarchical_memory_limit"]; ok && limited(n) != nil && (limit == nil || n < *limit) {
			limit = &n
		}
	}
	if limit == nil || *limit == 0 {
		return nil
	}
	if r.Limit == 0 || *limit < r.Limit {
		r.Limit = *limit
	}
	usage, err := optional(parsed(filepath.Join(dir, names.usage), parseNumber))
	if usage == nil || err != nil {
		return err
	}
	droppable := line[names.active] + line[names.inactive]
	droppable -= min(droppable, line[names.mapped])
	r.Share = max(r.Share, float64(*usage-min(*usage, droppable))/float64(*limit))
	return nil
}
