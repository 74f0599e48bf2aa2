package state

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// Containers tells which container a process is in: its id, "" if it is in none
// or that is not known yet. moved says that the process may be elsewhere since the
// last question. It is asked on the event path: it must not wait, and not keep p.
type Containers interface {
	ContainerOf(p *event.Process, moved bool) (id string)
}

// Options configure a Store. The bounds count live and ended entries together.
type Options struct {
	// Now returns CLOCK_BOOTTIME in nanoseconds.
	Now func() uint64
	// Containers may be nil: everything is on the host then.
	Containers Containers

	MaxProcesses   int // about 250 bytes each, and their texts
	MaxConnections int // about 170 bytes each
	MaxEndpoints   int // about 180 bytes each
	MaxTextBytes   int // of paths, arguments and container ids together

	// How long what has ended is kept: a process for the lineage of those it
	// leaves behind, an endpoint or a connection for whoever asks what was open a
	// moment ago. 0 keeps none.
	KeepProcesses, KeepEndpoints, KeepConnections time.Duration

	// Arguments says whether the arguments of processes are kept; see KeepArguments.
	Arguments  bool
	Networking Networking
	// Classes are the networks whose peers are private or on this node; every
	// other address is public. They must not overlap.
	Classes []ClassNetwork
}

// Defaults returns the options' usual bounds and times.
func Defaults() Options {
	return Options{
		MaxProcesses: 65536, MaxConnections: 262144, MaxEndpoints: 16384, MaxTextBytes: 32 << 20,
		KeepProcesses: 5 * time.Minute, KeepEndpoints: time.Minute,
		Arguments: true,
	}
}

func (o *Options) validate() error {
	var errs []error
	if o.Now == nil {
		errs = append(errs, errors.New("no clock"))
	}
	for name, n := range map[string]int{
		"processes": o.MaxProcesses, "connections": o.MaxConnections, "endpoints": o.MaxEndpoints, "text bytes": o.MaxTextBytes,
	} {
		if n <= 0 {
			errs = append(errs, fmt.Errorf("bound of %s is %d", name, n))
		}
	}
	return errors.Join(errs...)
}

// keeping is how long what has ended is kept, nanoseconds.
type keeping struct{ processes, endpoints, connections uint64 }

// Store holds the picture. Apply is for one goroutine, the one that reads the
// ring; everything else may be called from any.
type Store struct {
	now        func() uint64
	containers Containers
	classes    *ranges
	networks   atomic.Pointer[networks]
	arguments  atomic.Bool
	seed       maphash.Seed  // of identities of what has none
	shownAnew  chan struct{} // peers are shown in another way than before; for the Reporter

	mu          sync.Mutex // guards what follows; held for one event or one chunk
	texts       texts
	processes   processes
	connections connections
	endpoints   endpoints
	keep        keeping
	usual       keeping // what keep is unless ForgetAtOnce says otherwise
	surveys     surveys
	endings     *endings // nil without a Reporter
}

// New returns an empty Store.
func New(o Options) (*Store, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("make state: %w", err)
	}
	s := &Store{
		now: o.Now, containers: o.Containers, classes: newClasses(o.Classes),
		texts:       newTexts(o.MaxTextBytes),
		processes:   newProcesses(o.MaxProcesses),
		connections: newConnections(o.MaxConnections),
		endpoints:   newEndpoints(o.MaxEndpoints),
		seed:        maphash.MakeSeed(),
		shownAnew:   make(chan struct{}, 1),
	}
	if s.containers == nil {
		s.containers = host{}
	}
	s.keep = keeping{uint64(o.KeepProcesses), uint64(o.KeepEndpoints), uint64(o.KeepConnections)}
	s.usual = s.keep
	s.arguments.Store(o.Arguments)
	s.SetNetworking(o.Networking)
	return s, nil
}

// host is Containers where there are none.
type host struct{}

func (host) ContainerOf(*event.Process, bool) string { return "" }

// Apply takes one event into the picture, in constant time. The event may be
// reused afterwards.
func (s *Store) Apply(ev *event.Event) {
	switch ev.Point {
	case event.ProcessFork:
		s.applyFork(ev)
	case event.ProcessExec:
		s.applyExec(ev)
	case event.ProcessExit:
		s.applyExit(ev)
	case event.NetworkConnect, event.NetworkAccept:
		s.applyOpen(ev)
	case event.NetworkListen:
		s.applyListen(ev)
	case event.NetworkClose:
		s.applyClose(ev)
	}
}

// ForgetAtOnce says that nothing that has ended is kept, for want of memory, or
// that it is kept again as long as usual.
func (s *Store) ForgetAtOnce(on bool) {
	s.mu.Lock()
	s.keep = s.usual
	if on {
		s.keep = keeping{}
	}
	s.mu.Unlock()
	s.Expire()
}

// expireEvery is how often Run looks for entries that have been kept long enough.
const expireEvery = time.Second

// Run forgets what has ended and been kept long enough, until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(expireEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.Expire()
		}
	}
}

// Expire forgets what has ended and been kept long enough, and returns how many
// entries that were. It lets the event path in between.
func (s *Store) Expire() (n int) {
	now := s.now()
	for {
		s.mu.Lock()
		before := n
		for range chunkSlots {
			if !s.expireOne(now) {
				break
			}
			n++
		}
		s.mu.Unlock()
		if n-before < chunkSlots {
			return n
		}
	}
}

func (s *Store) expireOne(now uint64) bool {
	old := func(endedNS, keep uint64) bool { return endedNS+keep <= now }
	if id := s.processes.lists[ended].first; id != 0 && old(s.processes.at(id).rec.exitedNS, s.keep.processes) {
		s.forgetProcess(id)
		return true
	}
	if id := s.connections.lists[ended].first; id != 0 && old(s.connections.at(id).rec.closedNS, s.keep.connections) {
		s.forgetConnection(id)
		return true
	}
	if id := s.endpoints.lists[ended].first; id != 0 && old(s.endpoints.at(id).rec.closedNS, s.keep.endpoints) {
		s.forgetEndpoint(id)
		return true
	}
	return false
}

// chunks calls f for 0, 1, 2 … until it returns false, with the lock held during a
// call and free between two.
func (s *Store) chunks(f func(i int) bool) {
	for i, more := 0, true; more; i++ {
		s.mu.Lock()
		more = f(i)
		s.mu.Unlock()
	}
}

// text keeps a text. Where there is no room it gives up ended processes for it,
// a few, and then the text.
func (s *Store) text(text []byte) textID {
	for range 8 {
		id, ok := s.texts.put(text)
		if ok {
			return id
		}
		oldest := s.processes.lists[ended].first
		if oldest == 0 {
			break
		}
		s.processes.evictions++
		s.forgetProcess(oldest)
	}
	return 0
}

// retext replaces a text that is held.
func (s *Store) retext(old *textID, text string) {
	if s.texts.get(*old) == text {
		return
	}
	s.texts.drop(*old)
	*old = s.text([]byte(text))
}

// TableStat describes one table. Evictions and Drift are monotonic.
type TableStat struct {
	Table     string // process, connection, endpoint
	Entries   int    // live and ended
	Max       int
	Evictions uint64 // entries given up because the table was full
	Drift     uint64 // differences from the kernel that were found and mended
}

// Tables describes the tables.
func (s *Store) Tables() []TableStat {
	s.mu.Lock()
	defer s.mu.Unlock()
	return []TableStat{
		{"process", s.processes.len(), s.processes.max, s.processes.evictions, s.processes.drift},
		{"connection", s.connections.len(), s.connections.max, s.connections.evictions, s.connections.drift},
		{"endpoint", s.endpoints.len(), s.endpoints.max, s.endpoints.evictions, s.endpoints.drift},
	}
}
