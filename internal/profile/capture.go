package profile

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/procfs"
)

// MaxImages bounds the files that a profile keeps open: programs and libraries of all
// processes together. Addresses in further ones stay without a name.
const MaxImages = 512

// capture knows what was mapped where in the processes of a profile, and keeps the
// files open: when the names are looked up, the processes may be gone.
type capture struct {
	proc      string
	procfs    procfs.FS
	container func(*event.Process, bool) string

	mu     sync.Mutex
	spaces map[bpf.AddressSpace]*space
	images map[file]*image // nil for one that cannot be used
	late   int             // processes that had gone
}

// file tells files apart, whatever they are called.
type file struct{ device, inode uint64 }

// space is one address space.
type space struct {
	process   event.Process
	container string
	mappings  []procfs.Mapping // by address
}

func newCapture(proc string, container func(*event.Process, bool) string) *capture {
	return &capture{
		proc: proc, procfs: procfs.New(procfs.Options{Proc: proc}), container: container,
		spaces: map[bpf.AddressSpace]*space{}, images: map[file]*image{},
	}
}

// found reads what is mapped in an address space that was just seen first.
func (c *capture) found(id bpf.AddressSpace, p event.Process) {
	s := &space{process: p, container: c.container(&p, false)}
	c.read(id, s)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spaces[id] = s
	if id.ID != 0 && len(s.mappings) == 0 {
		c.late++
	}
}

// read adds what is mapped now to what was before, and opens the files. What has
// been mapped elsewhere since stays: samples may be from before.
func (c *capture) read(id bpf.AddressSpace, s *space) {
	if id.ID == 0 {
		return // a kernel thread
	}
	now, err := c.procfs.Mappings(id.PID)
	if err != nil {
		return // it has gone: late
	}
	local := c.localDevices(id.PID)
	for _, m := range now {
		if _, known := s.at(m.Start); !known && len(s.mappings) < procfs.MaxMappings {
			s.mappings = append(s.mappings, m)
			if m.Inode != 0 && local[m.Device] {
				c.open(id.PID, m)
			}
		}
	}
	slices.SortFunc(s.mappings, func(a, b procfs.Mapping) int { return cmp.Compare(a.Start, b.Start) })
}

// remote are file systems that may answer late or never: some server, or a program
// of whoever has mounted them. Files there are not opened.
var remote = []string{"fuse", "nfs", "cifs", "smb", "ceph", "afs", "9p"}

// localDevices returns the file systems that a process and the sensor see and that
// answer by themselves.
func (c *capture) localDevices(pid uint32) map[uint64]bool {
	seen, _ := c.procfs.Mounts(pid) // it may have gone
	own, _ := c.procfs.SelfMounts() // before 6.8, files in overlays belong to the file system below
	local := map[uint64]bool{}
	for _, m := range slices.Concat(own, seen) {
		local[m.Device] = !slices.ContainsFunc(remote, func(prefix string) bool { return strings.HasPrefix(m.Type, prefix) })
	}
	return local
}

// again reads the live processes once more, for what they have mapped since: those
// that have had one address space only, which must be its own then.
func (c *capture) again() {
	spaces := map[uint32]int{}
	for id := range c.spaces {
		spaces[id.PID]++
	}
	for id, s := range c.spaces {
		if spaces[id.PID] > 1 {
			continue
		}
		if stat, err := c.procfs.ProcessStat(id.PID); err == nil && stat.Start == s.process.StartNS/procfs.TickNS {
			c.read(id, s)
		}
	}
}

// open opens a mapped file once. /proc/<pid>/map_files leads to the very file that
// is mapped, also where it was deleted or lies in a container; it needs more
// privilege than the path.
func (c *capture) open(pid uint32, m procfs.Mapping) {
	which := file{m.Device, m.Inode}
	c.mu.Lock()
	_, known := c.images[which]
	full := len(c.images) >= MaxImages
	c.mu.Unlock()
	if known || full {
		return
	}
	dir := filepath.Join(c.proc, fmt.Sprint(pid))
	const flags = unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK // whatever it is, do not wait for it
	f, err := os.OpenFile(filepath.Join(dir, "map_files", fmt.Sprintf("%x-%x", m.Start, m.End)), flags, 0)
	if err != nil {
		f, err = os.OpenFile(filepath.Join(dir, "root", m.Path), flags, 0)
	}
	var i *image
	if err == nil {
		i, _ = openImage(f, strings.TrimSuffix(m.Path, " (deleted)")) // one that cannot be used has no names
	}
	c.mu.Lock()
	c.images[which] = i
	c.mu.Unlock()
}

// at returns the mapping that holds an address.
func (s *space) at(address uint64) (procfs.Mapping, bool) {
	for _, m := range s.mappings {
		if address >= m.Start && address < m.End {
			return m, true
		}
	}
	return procfs.Mapping{}, false
}

// comm is the name of the process.
func (s *space) comm() string {
	name, _, _ := strings.Cut(string(s.process.Comm[:]), "\x00")
	return strings.ToValidUTF8(name, "�")
}

func (c *capture) close() {
	for _, i := range c.images {
		if i != nil {
			_ = i.close()
		}
	}
}
