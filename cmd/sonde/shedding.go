package main

import (
	"errors"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/logging"
	"github.com/sonde-ebpf/sonde/internal/procfs"
	"github.com/sonde-ebpf/sonde/internal/shed"
	"github.com/sonde-ebpf/sonde/introspect"
)

// fitMemory makes everything fit the memory limit before anything is loaded:
// sizes of maps, and the limit of the Go run time.
func (a *agent) fitMemory() (detail string, err error) {
	room, err := a.machine.fs.SelfRoom()
	if errors.Is(err, procfs.ErrNoData) {
		return "no limit", nil
	}
	if err != nil {
		a.log.Warn("memory limit unknown", "err", err)
		return "unknown limit", nil
	}
	a.memoryLimit = room.Limit
	maps, err := bpf.Layouts(a.config.Collectors["workloads"])
	if err != nil {
		return "", err
	}
	changed, err := layouts(maps).fit(a.config, room.Limit)
	if err != nil {
		return "", err
	}
	if len(changed) > 0 {
		a.log.Warn("sizes made smaller to fit the memory limit", "limit_bytes", room.Limit, "sizes", changed,
			"remedy", "raise the limit, or set --limits.* to choose what to give up")
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(shed.GoLimit(room.Limit, layouts(maps).bytes(&a.config.Limits), room.Mapped))
	}
	return strings.Join(append([]string{"limit " + mebibytes(room.Limit)}, changed...), ", "), nil
}

// makeGovernor makes what keeps the sensor within its limit, and says what is shed when.
func (p *probes) makeGovernor() {
	log := p.opts.log.With(logging.TargetKey, "shed")
	p.governor = shed.New(shed.Options{
		Log: log, Room: p.opts.machine.fs.SelfRoom, FixedGoLimit: os.Getenv("GOMEMLIMIT") != "",
		Maps: func() (uint64, error) {
			maps, err := p.kernel.Maps()
			return bpfMemory(maps), err
		},
	})
	p.governor.Register(shed.Trim, "what has ended", p.model.store.ForgetAtOnce)
	p.governor.Register(shed.Trim, "three quarters of the queues of sessions", func(on bool) { p.sessions.Shorten(on) })
	p.governor.Register(shed.Reduce, "arguments of processes", p.model.shedArguments)
	p.governor.Register(shed.Reduce, "events that only sessions want", func(on bool) {
		if on {
			p.allow(picturePoints...)
			return
		}
		p.allow(event.AllPoints()...)
	})
	p.governor.Register(shed.Counters, "heap dump", func(on bool) {
		if !on {
			return
		}
		switch path, err := shed.HeapDump(p.opts.settings.stateDir, time.Now()); {
		case err != nil:
			log.Warn("heap not dumped", "err", err)
		case path != "":
			log.Warn("heap dumped", "path", path)
		}
	})
	p.governor.Register(shed.Counters, "events", func(on bool) {
		if on {
			p.allow()
			return
		}
		p.allow(picturePoints...)
		p.model.lookAgain()
	})
}

// allow keeps all points of events off but some.
func (p *probes) allow(points ...event.Point) {
	if err := p.kernel.Allow(points...); err != nil {
		p.opts.log.Warn("events not switched", "err", err)
	}
}

// memoryState is the governor as introspection shows it.
func (p *probes) memoryState() introspect.Memory {
	m := introspect.Memory{ShedLevel: p.governor.Level(), GoLimit: p.governor.GoLimit()}
	if room, err := p.opts.machine.fs.SelfRoom(); err == nil {
		m.Limit, m.Share = room.Limit, room.Share
	}
	return m
}
