package shed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/sonde-ebpf/sonde/internal/procfs"
)

// Tick is how often the governor looks.
const Tick = 500 * time.Millisecond

// mapsEvery is how often maps are summed up again unasked, in ticks.
const mapsEvery = 120

// Options configure a Governor.
type Options struct {
	Log *slog.Logger
	// Room reads how much of the limit is taken; ErrNoData where nothing limits.
	Room func() (procfs.Room, error)
	// Maps sums up the kernel memory of the BPF maps, bytes; it may be slow.
	Maps func() (uint64, error)
	// FixedGoLimit says that the user has set GOMEMLIMIT: it stays as it is.
	FixedGoLimit bool
}

// Governor watches the memory limit and sheds load. Register before Run; everything
// else may be called at any time.
type Governor struct {
	opts    Options
	actions [Levels][]action

	mu          sync.Mutex // guards what follows
	level       int
	transitions [Levels]uint64
	goLimit     int64 // 0: not set by us
	maps        uint64
	stale       bool // maps have to be summed up again
}

// action is something to shed.
type action struct {
	name string
	do   func(on bool)
}

// New returns a Governor that has done nothing yet.
func New(o Options) *Governor { return &Governor{opts: o, stale: true} }

// Register adds something to shed from a level on: do is called with true when the
// level is reached, with false when it is left, from one goroutine, in the order in
// which actions were registered and back in the reverse one. It must not wait long.
func (g *Governor) Register(level int, name string, do func(on bool)) {
	g.actions[level] = append(g.actions[level], action{name, do})
}

// Level returns the present level.
func (g *Governor) Level() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.level
}

// Transitions returns how often each level was entered, from above or below.
func (g *Governor) Transitions() [Levels]uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.transitions
}

// GoLimit returns the limit that was set for the Go run time, 0 if none was.
func (g *Governor) GoLimit() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.goLimit
}

// MapsChanged tells that maps were made or are gone.
func (g *Governor) MapsChanged() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stale = true
}

// ErrShort says that memory is short.
var ErrShort = errors.New("memory is short")

// Admit reports whether there is memory for something new that takes so many bytes: not
// while details are shed, nor where it would make them be.
func (g *Governor) Admit(bytes uint64) error {
	room, err := g.opts.Room()
	switch {
	case errors.Is(err, procfs.ErrNoData):
		return nil
	case err != nil:
		return fmt.Errorf("read memory limit: %w", err)
	}
	share := room.Share + float64(bytes)/float64(room.Limit)
	if level := g.Level(); level >= Reduce || share >= Rise[Reduce] {
		return fmt.Errorf("%w: level %d, %.0f %% of %d bytes would be taken", ErrShort, level, 100*share, room.Limit)
	}
	return nil
}

// Run watches until ctx ends. It returns at once where nothing limits the memory.
func (g *Governor) Run(ctx context.Context) error {
	tick := time.NewTicker(Tick)
	defer tick.Stop()
	var (
		steps ladder
		short int // ticks since something is shed
	)
	for n := 0; ; n++ {
		if n%mapsEvery == 0 {
			g.MapsChanged()
		}
		room, err := g.opts.Room()
		switch {
		case errors.Is(err, procfs.ErrNoData):
			return nil
		case err != nil:
			return fmt.Errorf("watch memory limit: %w", err)
		}
		if err := g.tell(room); err != nil {
			g.opts.Log.Warn("memory of maps unknown", "err", err)
		}
		g.enter(steps.step(room.Share), room)
		short = g.collect(short)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// collect gives what the run time does not use back to the kernel as long as
// something is shed, as often as a level may end: it would count as taken.
func (g *Governor) collect(short int) int {
	if g.Level() == Normal {
		return 0
	}
	if short%Patience == 0 {
		debug.FreeOSMemory()
	}
	return short + 1
}

// enter goes to a level, through those between.
func (g *Governor) enter(level int, room procfs.Room) {
	for at := g.Level(); at != level; at = g.Level() {
		if level > at {
			at++
			g.note(at, room)
			for _, a := range g.actions[at] {
				a.do(true)
			}
			continue
		}
		for i := range g.actions[at] {
			g.actions[at][len(g.actions[at])-1-i].do(false)
		}
		g.note(at-1, room)
	}
}

// note records and logs a level before something is shed for it, or after all of it is back.
func (g *Governor) note(level int, room procfs.Room) {
	g.mu.Lock()
	up := level > g.level
	g.level = level
	g.transitions[level]++
	g.mu.Unlock()
	attrs := []any{"level", level, "share", fmt.Sprintf("%.2f", room.Share), "limit_bytes", room.Limit}
	if !up {
		g.opts.Log.Info("memory is less short: load is taken back", attrs...)
		return
	}
	var names []string
	for _, a := range g.actions[level] {
		names = append(names, a.name)
	}
	g.opts.Log.Warn("memory is short: load is shed; counters go on", append(attrs, "shed", names)...)
}

// headroom is what the sensor needs besides the Go run time, maps and mapped
// files: kernel stacks, page tables, programs, socket buffers, page cache.
func headroom(limit uint64) uint64 { return max(limit/16, 4<<20) }

// leastGoLimit is below which a limit would only make the collector spin.
const leastGoLimit = 12 << 20

// GoLimit is what of a memory limit belongs to the Go run time.
func GoLimit(limit, maps, mapped uint64) int64 {
	taken := maps + mapped + headroom(limit)
	return int64(max(limit-min(limit, taken), leastGoLimit))
}

// goLimitStep is by how much the limit must be off before it is set anew.
const goLimitStep = 1 << 20

// tell tells the Go run time its part of the limit.
func (g *Governor) tell(room procfs.Room) (err error) {
	if g.opts.FixedGoLimit {
		return nil
	}
	g.mu.Lock()
	stale := g.stale
	g.stale = false
	g.mu.Unlock()
	if stale {
		var maps uint64
		if maps, err = g.opts.Maps(); err == nil {
			g.mu.Lock()
			g.maps = maps
			g.mu.Unlock()
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	limit := GoLimit(room.Limit, g.maps, room.Mapped)
	if off := limit - g.goLimit; off >= goLimitStep || off <= -goLimitStep {
		g.opts.Log.Debug("memory limit of the Go run time", "bytes", limit, "maps", g.maps, "mapped", room.Mapped, "limit", room.Limit)
		debug.SetMemoryLimit(limit)
		g.goLimit = limit
	}
	return err
}
