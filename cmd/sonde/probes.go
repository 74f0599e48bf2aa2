package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/collectors"
	"github.com/sonde-ebpf/sonde/internal/blackbox"
	"github.com/sonde-ebpf/sonde/internal/config"
	"github.com/sonde-ebpf/sonde/internal/digest"
	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/logging"
	"github.com/sonde-ebpf/sonde/internal/profile"
	"github.com/sonde-ebpf/sonde/internal/rules"
	"github.com/sonde-ebpf/sonde/internal/shed"
	"github.com/sonde-ebpf/sonde/internal/stream"
)

// canaryLost is when a canary that has not arrived is given up.
const canaryLost = bpf.CanaryInterval

// probeOptions is what the kernel side needs to know.
type probeOptions struct {
	log      *slog.Logger
	settings *settings
	config   *config.Config
	machine  machine
	limit    uint64 // of memory, bytes; 0 for none
	vitals   *vitals
}

// probes is everything attached to the kernel. It is made by startProbes; Run
// reads events until Stop has drained them; Close comes last.
type probes struct {
	opts     probeOptions
	attached time.Time
	kernel   *bpf.Kernel
	events   *bpf.Events
	editor   event.Editor // of every text that an event carries
	pipeline *stream.Pipeline
	canary   *stream.Canary
	timers   *stream.Timers
	examples *collectors.Exemplars
	stats    *bpf.StatsSampler
	model    *model
	profiles *profile.Node
	sessions *sessions
	digests  *digester
	rules    *rules.Engine

	// A probe that was refused or is switched off is nil.
	syscalls  *bpf.Syscalls
	processes *bpf.Processes
	tcp       *bpf.TCP
	udp       *bpf.UDP
	drops     *bpf.Drops
	oom       *bpf.OOM

	box      *blackbox.Box
	governor *shed.Governor

	mu       sync.Mutex
	statuses []bpf.ProbeStatus

	work     context.Context    // ends when Stop begins
	stopping context.CancelFunc // ends work
	drained  chan struct{}      // closed when the ring has been read to its end
}

// Operations that the sensor times, of its own recurring work.
const (
	readSyscalls  = "read_syscalls"
	readProcesses = "read_processes"
	readTCP       = "read_tcp"
	readUDP       = "read_udp"
	readMaps      = "read_maps"
)

// startProbes loads and attaches the probes and seeds what exists already, each
// as a step of the start. One probe refused is a degraded start that the log and
// the metrics tell of; none attached is an error, and then nothing stays attached.
// When ctx ends, so does the start, after the step that is under way.
func startProbes(ctx context.Context, o probeOptions, steps *Steps) (*probes, error) {
	p := &probes{
		opts: o, attached: time.Now(), canary: stream.NewCanary(canaryLost), drained: make(chan struct{}),
		timers:   stream.NewTimers(readSyscalls, readProcesses, readTCP, readUDP, readMaps),
		examples: collectors.NewExemplars(o.settings.node),
		stats:    bpf.NewStatsSampler(),
	}
	p.editor.KeepArguments(o.config.Runtime.Processes.Arguments)
	p.work, p.stopping = context.WithCancel(context.Background())
	p.pipeline = stream.NewPipeline("events", &bpf.BootClock{}, p.canary, func(ev *event.Event) {
		p.examples.Record(ev)
		p.model.apply(ev)
		p.sessions.Publish(ev)
	})
	if err := steps.Do("model", p.makeModel); err != nil {
		return nil, err
	}
	p.makeGovernor()
	if err := steps.Do("kernel", p.loadKernel); err != nil {
		return nil, err
	}
	p.profiles = p.newNodeProfiles()
	err := steps.Do("rules", p.startRules)
	if err == nil {
		err = steps.Do("sessions", p.startSessions)
	}
	if err == nil {
		err = p.attachAll(ctx, steps)
	}
	if err == nil {
		err = steps.Do("black_box", p.beginBlackBox)
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	p.kernel.Loaded()
	debug.FreeOSMemory() // loading takes twice what running does
	return p, nil
}

// follow makes events follow the runtime configuration. It goes before the picture,
// so that nothing enters that which was just cleared.
func (p *probes) follow(r config.Runtime) error {
	p.editor.KeepArguments(r.Processes.Arguments)
	return p.sessions.follow(r)
}

func (p *probes) makeModel() (detail string, err error) {
	if p.model, err = newModel(p.opts.log.With(logging.TargetKey, "state"), p.opts.settings, p.opts.config, p.opts.limit, &p.editor); err != nil {
		return "", err
	}
	return p.model.detail(), nil
}

// startSessions begins the sessions of the configuration, before any probe is
// attached: they miss nothing.
func (p *probes) startSessions() (string, error) {
	if err := p.sessions.follow(p.opts.config.Runtime); err != nil {
		return "", &exitError{code: exitConfig, err: err}
	}
	return fmt.Sprintf("%d sessions", len(p.sessions.names())), nil
}

// loadKernel loads what all probes share, opens the event ring and turns the
// points on: a probe sends events from the moment it is attached.
func (p *probes) loadKernel() (string, error) {
	var err error
	limits := p.opts.config.Limits
	o := bpf.Options{RingBytes: uint32(limits.RingBytes), BTF: p.opts.settings.btf, Editor: &p.editor, Changed: p.governor.MapsChanged}
	if p.model.containers != nil {
		o.Controller = p.model.containers.View().V1Controller
		if p.opts.config.Collectors["workloads"] {
			o.Workloads = &bpf.WorkloadOptions{}
		}
	}
	if p.kernel, err = bpf.Load(o); err != nil {
		return "", err
	}
	if p.events, err = bpf.NewEvents(p.kernel, p.pipeline); err != nil {
		p.kernel.Close()
		return "", err
	}
	p.rules = rules.NewEngine(rules.Self{PID: p.kernel.Self().PID, HostMount: p.opts.machine.hostMounts()})
	p.digests = &digester{Digests: digest.New(p.opts.machine.fs.OpenExecutable), editor: &p.editor}
	p.sessions = p.newSessions()
	p.model.teller.publish = p.sessions.Publish
	if err := p.kernel.SetPoints(picturePoints...); err != nil {
		return "", errors.Join(err, p.Close())
	}
	p.note(p.kernel.Status())
	return fmt.Sprintf("ring of %v", limits.RingBytes), nil
}

// attachAll attaches every probe that is switched on. Syscalls comes first: tcp
// hooks into it.
func (p *probes) attachAll(ctx context.Context, steps *Steps) error {
	on, limits := p.opts.config.Collectors, p.opts.config.Limits
	wanted, failed := 0, 0
	var first error
	try := func(name string, load func() (bpf.ProbeStatus, error)) {
		if !on[name] || ctx.Err() != nil {
			return
		}
		wanted++
		err := steps.Do(name, func() (string, error) {
			status, err := load()
			if err != nil {
				return "", p.opts.machine.explain(err, exitProbes)
			}
			p.note(status)
			return describe(status), nil
		})
		if err != nil {
			failed++
			if first == nil {
				first = err
			}
			p.note(bpf.ProbeStatus{Probe: name, Reason: err.Error()})
		}
	}
	try("syscalls", func() (bpf.ProbeStatus, error) {
		o := bpf.SyscallsOptions{
			ThreadSlots: uint32(limits.Threads), ThreadsOverflow: uint32(limits.ThreadsOverflow), Errors: uint32(limits.SyscallErrors),
		}
		made, err := bpf.NewSyscalls(p.kernel, o)
		return keep(&p.syscalls, made, err)
	})
	try("process", func() (bpf.ProbeStatus, error) {
		o := bpf.ProcessesOptions{Max: uint32(limits.Processes), Listed: p.opts.machine.fs}
		made, err := bpf.NewProcesses(p.kernel, o)
		return keep(&p.processes, made, err)
	})
	if err := steps.Do("seed", p.seed); err != nil {
		return err
	}
	try("tcp", func() (bpf.ProbeStatus, error) {
		made, err := bpf.NewTCP(p.kernel, bpf.TCPOptions{MaxSockets: uint32(limits.Connections), MaxListeners: uint32(limits.Endpoints), Listed: p.opts.machine.listedTCP})
		return keep(&p.tcp, made, err)
	})
	try("udp", func() (bpf.ProbeStatus, error) {
		made, err := bpf.NewUDP(p.kernel, bpf.UDPOptions{
			MaxFlows: uint32(limits.Flows), MaxSockets: uint32(limits.UDPSockets), Listed: p.opts.machine.listedUDP,
			CgroupPath: p.opts.machine.cgroupV2(p.opts.settings.cgroupFS),
		})
		return keep(&p.udp, made, err)
	})
	try("drops", func() (bpf.ProbeStatus, error) {
		made, err := bpf.NewDrops(p.kernel)
		return keep(&p.drops, made, err)
	})
	try("oom", func() (bpf.ProbeStatus, error) {
		made, err := bpf.NewOOM(p.kernel, bpf.OOMOptions{PinDir: p.opts.settings.pinDir})
		return keep(&p.oom, made, err)
	})
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := steps.Do("acts", func() (string, error) { return "", p.sessions.acts.Ready() }); err != nil {
		p.note(bpf.ProbeStatus{Probe: "acts", Reason: err.Error()})
	}
	if wanted > 0 && failed == wanted {
		return first
	}
	return nil
}

// keep keeps a probe that was made, and nothing of one that was refused.
func keep[P any, S interface {
	*P
	Status() bpf.ProbeStatus
}](dst *S, made S, err error) (bpf.ProbeStatus, error) {
	if err != nil {
		return bpf.ProbeStatus{}, err
	}
	*dst = made
	return made.Status(), nil
}

// watchEvery is how often probes are looked at that others can detach.
const watchEvery = 5 * time.Second

// watchStatus finds out until ctx ends when somebody else detaches the udp probe:
// the links of the others cannot be detached.
func (p *probes) watchStatus(ctx context.Context) {
	if p.udp == nil {
		return
	}
	for tick := time.NewTicker(watchEvery); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
			if s := p.udp.Status(); !slices.Contains(p.Probes(), s) {
				p.note(s)
			}
		}
	}
}

// note records a probe's status, in place of an earlier one, and logs what is amiss, once.
func (p *probes) note(s bpf.ProbeStatus) {
	p.mu.Lock()
	p.statuses = append(slices.DeleteFunc(p.statuses, func(old bpf.ProbeStatus) bool { return old.Probe == s.Probe }), s)
	p.mu.Unlock()
	switch {
	case !s.Attached:
		p.opts.log.Warn("probe not attached", "probe", s.Probe, "reason", s.Reason)
	case s.Reason != "":
		p.opts.log.Warn("probe degraded", "probe", s.Probe, "attach", s.Attach, "reason", s.Reason)
	default:
		p.opts.log.Debug("probe attached", "probe", s.Probe, "attach", s.Attach)
	}
}

func describe(s bpf.ProbeStatus) string {
	if s.Reason != "" {
		return s.Attach + "; " + s.Reason
	}
	return s.Attach
}

// Probes returns the status of every probe.
func (p *probes) Probes() []bpf.ProbeStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]bpf.ProbeStatus(nil), p.statuses...)
}

// Run reads the event ring and keeps everything going that belongs to it. It
// returns nil once Stop has emptied the ring, and an error as soon as a part fails:
// a sensor that is blind in part ends, so that somebody sees it.
func (p *probes) Run() error {
	g, work := errgroup.WithContext(p.work)
	p.opts.vitals.watch(p.pipeline, p.canary)
	g.Go(func() error {
		defer close(p.drained)
		return p.pipeline.Run(p.events)
	})
	g.Go(func() error { return p.kernel.RunCanary(work, bpf.CanaryInterval, p.canary.Sent) })
	g.Go(func() error {
		if err := p.stats.Run(work); err != nil {
			p.opts.log.Warn("no run-time statistics of programs", "err", err)
		}
		return nil
	})
	if p.udp != nil {
		g.Go(func() error {
			if err := p.udp.Run(work); err != nil {
				p.opts.log.Warn("idle flows are closed at scrapes only", "err", err)
			}
			return nil
		})
	}
	g.Go(func() error {
		p.watchStatus(work)
		return nil
	})
	g.Go(func() error { return p.model.run(work, p.survey) })
	g.Go(func() error { return p.digests.Run(work) })
	g.Go(func() error {
		if err := p.governor.Run(work); err != nil {
			p.opts.log.Warn("nothing is shed when memory is short", "err", err)
		}
		return nil
	})
	g.Go(func() error {
		<-work.Done()
		if p.work.Err() == nil { // not Stop: a part has failed, and the reader must not wait for it
			return p.events.Flush()
		}
		return nil
	})
	return g.Wait()
}

// Stop detaches the links, reads the ring to its end, lets the sinks take what waits
// for them, and waits for all that, until ctx ends. Counts stay readable until Close.
func (p *probes) Stop(ctx context.Context) error {
	p.stopping()
	p.opts.vitals.rest() // the way to the end has a deadline of its own
	p.kernel.Detach()
	if err := p.events.Flush(); err != nil {
		return fmt.Errorf("flush event ring: %w", err)
	}
	select {
	case <-p.drained:
	case <-ctx.Done():
		return failf(exitStop, "read the event ring to its end: %w", ctx.Err())
	}
	if err := p.sessions.Close(ctx); err != nil {
		p.opts.log.Warn("sessions not ended in order", "err", err)
	}
	if p.oom != nil {
		return p.oom.Retire()
	}
	return nil
}

// Close unloads everything. Sessions that Stop has not ended end at once.
func (p *probes) Close() error {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	err := errors.Join(p.sessions.Close(now), p.events.Close())
	p.kernel.Close()
	return err
}

// silentAfter is how long no canary may arrive before the event path counts as stuck.
const silentAfter = 3 * bpf.CanaryInterval

// NotReady returns why the sensor is not ready, nothing when it is.
func (p *probes) NotReady() []string {
	switch canary := p.canary.Stats(); {
	case !p.model.surveyed.Load():
		return []string{"the processes and sockets that were there before have not been listed yet"}
	case canary.Arrived == 0:
		return []string{"no canary event has arrived yet"}
	case time.Since(canary.Last) > silentAfter:
		return []string{"no canary event has arrived since " + canary.Last.Format(time.TimeOnly)}
	}
	return nil
}
