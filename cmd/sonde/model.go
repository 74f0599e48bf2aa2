package main

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/config"
	"github.com/sonde-ebpf/sonde/internal/container"
	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/logging"
	"github.com/sonde-ebpf/sonde/internal/state"
)

// surveyEvery is how often the picture is compared with the kernel's.
const surveyEvery = time.Minute

// model is what introspection shows: who runs, who talks to whom, in which container.
type model struct {
	log        *slog.Logger
	clock      *sharedClock
	store      *state.Store
	containers *container.Containers // nil where no cgroup can be seen
	teller     *teller
	stale      chan struct{} // the picture is to be compared with the kernel's at once
	seeded     chan struct{} // closed when the processes that were there before have been listed
	surveyed   atomic.Bool   // and what sockets they had
	told       atomic.Uint64 // the points that somebody wants, a bit each
	ancestors  atomic.Bool   // somebody wants to know whom processes descend from

	mu        sync.Mutex // guards what follows
	arguments bool       // what the configuration says
	shed      bool       // arguments are given up for want of memory
}

// newModel makes an empty picture; the first survey fills it.
func newModel(log *slog.Logger, s *settings, c *config.Config, limit uint64, editor *event.Editor) (*model, error) {
	m := &model{
		log: log, clock: &sharedClock{}, stale: make(chan struct{}, 1), seeded: make(chan struct{}), arguments: c.Runtime.Processes.Arguments,
	}
	m.teller = &teller{now: m.clock.Now, editor: editor, publish: func(*event.Event) {}, changed: make(chan struct{}, 1)}
	var err error
	m.containers, err = container.New(container.Options{
		Proc: s.procFS, Rootfs: s.rootFS, CgroupRoot: s.cgroupFS, Runtimes: c.Containers, Max: c.Limits.Containers, Hold: s.eventsHold,
		Log: log.With(logging.TargetKey, "container"), Changed: m.teller.container,
	})
	if err != nil {
		log.Warn("containers stay unknown", "err", err)
	}
	o := state.Defaults()
	o.Now = m.clock.Now
	o.MaxProcesses, o.MaxConnections, o.MaxEndpoints = c.Limits.Processes, c.Limits.Connections, c.Limits.Endpoints
	o.MaxTextBytes = int(c.Limits.TextBytes)
	fitPicture(&o, limit)
	o.Arguments = c.Runtime.Processes.Arguments
	o.Networking = networking(c.Runtime.Networking)
	o.Classes = peerClasses()
	if m.containers != nil {
		o.Containers = m.containers
	}
	if m.store, err = state.New(o); err != nil {
		return nil, err
	}
	m.teller.store = m.store
	return m, nil
}

// apply follows one event, and gives it its Subject if it is told to somebody; it runs
// in the one goroutine that reads the ring.
func (m *model) apply(ev *event.Event) {
	if m.containers != nil && ev.Point == event.ProcessFork {
		m.containers.Fork(&ev.Process, &ev.Child)
	}
	told, end := m.told.Load()>>ev.Point&1 == 1, ev.Point == event.ProcessExit
	if told && end {
		m.describe(ev)
	}
	m.store.Apply(ev)
	if told && !end {
		m.describe(ev)
	}
}

func (m *model) describe(ev *event.Event) {
	m.store.Describe(ev)
	m.addAncestors(ev)
}

// addAncestors tells an event whom its process descends from, if somebody wants to know.
func (m *model) addAncestors(ev *event.Event) {
	if m.ancestors.Load() {
		m.store.Ancestors(ev, m.teller.editor)
	}
}

// hold returns how long the events of a container may still wait for its name.
func (m *model) hold(id string) time.Duration {
	if m.containers == nil {
		return 0
	}
	return m.containers.Wait(container.ParseID(id))
}

// earlier yields an event for each process that was there before the sensor, as soon as
// they are known.
func (m *model) earlier(stop <-chan struct{}, yield func(*event.Event) bool) {
	select {
	case <-m.seeded:
		m.store.Earlier(m.teller.editor, func(ev *event.Event) bool {
			m.addAncestors(ev)
			return yield(ev)
		})
	case <-stop:
	}
}

// tell says which events somebody wants, before the first of them is passed on.
func (m *model) tell(points []event.Point) {
	var bits uint64
	for _, p := range points {
		bits |= 1 << p
	}
	m.told.Store(bits)
}

// run keeps the picture tidy until ctx ends.
func (m *model) run(ctx context.Context, survey func(*state.Survey) (processes, sockets bool)) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.store.Run(ctx) })
	g.Go(func() error {
		m.teller.run(ctx)
		return nil
	})
	if m.containers != nil {
		g.Go(func() error { return m.containers.Run(ctx) })
	}
	g.Go(func() error {
		tick := time.NewTicker(surveyEvery)
		defer tick.Stop()
		for {
			v := m.store.Survey()
			if drift := v.Finish(survey(v)); drift != (state.Drift{}) {
				m.log.Debug("state mended", "processes", drift.Processes, "connections", drift.Connections, "endpoints", drift.Endpoints)
			}
			m.surveyed.Store(true)
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			case <-m.stale:
			}
		}
	})
	return g.Wait()
}

// follow makes the picture follow the runtime configuration.
func (m *model) follow(r config.Runtime) error {
	m.store.SetNetworking(networking(r.Networking))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.arguments = r.Processes.Arguments
	m.store.KeepArguments(m.arguments && !m.shed)
	return nil
}

// shedArguments gives up the arguments of processes, or keeps those of new ones again.
func (m *model) shedArguments(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shed = on
	m.store.KeepArguments(m.arguments && !m.shed)
}

// lookAgain makes the picture be compared with the kernel's soon.
func (m *model) lookAgain() {
	select {
	case m.stale <- struct{}{}:
	default: // it will be
	}
}

// networking translates the configuration's section of that name.
func networking(n config.Networking) state.Networking {
	on := n.ExternalIPs.Enabled == "ENABLED"
	out := state.Networking{
		ExternalIngress: on && n.ExternalIPs.Direction != "EGRESS",
		ExternalEgress:  on && n.ExternalIPs.Direction != "INGRESS",
		Afterglow:       n.AfterglowPeriod,
		PerMinute:       n.MaxConnectionsPerMinute,
	}
	for _, known := range n.KnownNetworks {
		out.Known = append(out.Known, state.Network{Name: known.Name, Prefix: known.CIDR.Prefix})
	}
	for _, p := range n.IgnoredNetworks {
		out.Ignored = append(out.Ignored, p.Prefix)
	}
	for _, p := range n.NonAggregatedNetworks {
		out.NonAggregated = append(out.NonAggregated, p.Prefix)
	}
	return out
}

// peerClasses are the networks by which the kernel side classes peers.
func peerClasses() (classes []state.ClassNetwork) {
	for _, n := range bpf.PeerNetworks() {
		class := state.Private
		if n.Peer == bpf.Loopback {
			class = state.Loopback
		}
		classes = append(classes, state.ClassNetwork{Prefix: n.Prefix, Class: class})
	}
	return classes
}

// cgroupRoot is where the host's cgroup v2 hierarchy can be seen, "" where it cannot.
func (m *model) cgroupRoot() string {
	if m.containers == nil {
		return ""
	}
	return m.containers.View().V2
}

// wall turns a time of the boot clock into one that people know.
func (m *model) wall(bootNS uint64) time.Time {
	return time.Now().Add(-time.Duration(m.clock.Now() - bootNS))
}

// detail tells in a phrase what of the containers can be seen.
func (m *model) detail() string {
	if m.containers == nil {
		return "no containers"
	}
	view := m.containers.View()
	if !view.Visible() {
		return "not every container can be seen: " + view.Hint
	}
	return "containers visible"
}

// sharedClock is a BootClock for several goroutines.
type sharedClock struct {
	mu    sync.Mutex
	clock bpf.BootClock
}

// Now returns nanoseconds of CLOCK_BOOTTIME.
func (c *sharedClock) Now() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clock.Now()
}
