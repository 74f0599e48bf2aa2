package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sonde-ebpf/sonde/internal/blackbox"
	"github.com/sonde-ebpf/sonde/introspect"
)

// statusReport is what `sonde status --json` prints: the sensor's own answers.
type statusReport struct {
	Ready    introspect.ReadyAnswer  `json:"ready"`
	Sensor   introspect.Sensor       `json:"sensor"`
	Pipeline introspect.Pipeline     `json:"pipeline"`
	Config   introspect.ConfigStatus `json:"config"`
}

func (c *cli) addStatus() {
	c.ask(c.app.Command("status", "Tell how the sensor that runs is doing: readiness, probes, losses, rings, memory, configuration."), runStatus)
}

// runStatus shows the sensor; one that is not ready has an exit code of its own.
func runStatus(ctx context.Context, q *asking) error {
	if err := q.connect(ctx); err != nil {
		return err
	}
	var r statusReport
	if err := answered(q.Ask(ctx, http.MethodGet, "/ready", "", &r.Ready, http.StatusServiceUnavailable)); err != nil {
		return err
	}
	var config introspect.RuntimeConfigAnswer
	for path, into := range map[string]any{"/state/sensor": &r.Sensor, "/state/pipeline": &r.Pipeline, "/state/runtime-config": &config} {
		if err := q.get(ctx, path, into); err != nil {
			return err
		}
	}
	r.Config = config.Status
	if err := q.show(r, r.write); err != nil {
		return err
	}
	if len(r.Ready.Reasons) > 0 || r.Ready.Status != "ok" {
		return failf(exitNotReady, "the sensor is not ready: %s", strings.Join(r.Ready.Reasons, "; "))
	}
	return nil
}

func (r *statusReport) write(p *page) {
	s, now := &r.Sensor, time.Now()
	p.row("sensor", fmt.Sprintf("sonde %s (revision %s), pid %d", s.Version, s.Revision, s.PID))
	p.row("node", fmt.Sprintf("%s, kernel %s", s.Node, s.Kernel))
	p.row("uptime", age(now.Sub(s.Started)))
	if len(r.Ready.Reasons) == 0 {
		p.row("ready", p.status(statusOK, "yes"))
	} else {
		p.row("ready", p.status(statusFail, "no"), strings.Join(r.Ready.Reasons, "; "))
	}
	p.row("events", r.Ready.Collector.Events)
	r.writeLosses(p)
	p.row("memory", memoryText(&s.Memory))
	if shed := r.Pipeline.Memory.ShedLevel; shed > 0 {
		p.row("shedding", p.status(statusWarn, fmt.Sprintf("level %d", shed)), "memory is short; counters go on")
	}
	if s.CPURatio != nil {
		p.row("cpu", fmt.Sprintf("%.2f %% of a core since the start", 100**s.CPURatio))
	}
	p.row("config", fmt.Sprintf("generation %d from %s, in force for %s", r.Config.Generation, r.Config.Source, age(now.Sub(r.Config.Time))))
	if why := r.Config.LastError; why != nil {
		p.row("refused", p.status(statusFail, age(now.Sub(r.Config.LastErrorTime))+" ago"), strings.ReplaceAll(*why, "\n", "; "))
	}
	r.writeLastEnd(p, now)
	for _, listener := range slices.Sorted(maps.Keys(s.Addresses)) {
		p.row(listener, strings.Join(s.Addresses[listener], " "))
	}
	p.gap()
	p.row(p.head("PROBE"), "HOW", "NOTE")
	for _, probe := range r.Pipeline.Probes {
		news := statusOK
		switch {
		case !probe.Attached:
			news = statusFail
		case probe.Reason != "":
			news = statusWarn
		}
		p.row(p.status(news, probe.Probe), probe.Attach, probe.Reason)
	}
	p.gap()
	writeRings(p, r.Pipeline.Rings)
}

// writeLastEnd tells how the run before this one ended.
func (r *statusReport) writeLastEnd(p *page, now time.Time) {
	last := r.Pipeline.BlackBox.LastEnd
	if last == nil {
		p.row("last end", "no earlier run is known")
		return
	}
	news, when := statusWarn, "at an unknown time"
	if last.Reason == blackbox.Clean {
		news = statusOK
	}
	if !last.Time.IsZero() {
		when = age(now.Sub(last.Time)) + " ago"
	}
	p.row("last end", p.status(news, last.Reason+" "+when), fmt.Sprintf("pid %d, %s", last.PID, last.Detail))
}

func (r *statusReport) writeLosses(p *page) {
	d := r.Ready.Collector.Drops
	if d.Total == 0 {
		p.row("losses", p.status(statusOK, "none"))
		return
	}
	p.row("losses", p.status(statusWarn, fmt.Sprint(d.Total)),
		fmt.Sprintf("ring full %d, malformed %d, session queue full %d, sink failed %d", d.RingBuffer, d.Decode, d.Session, d.Sink))
}

func writeRings(p *page, rings []introspect.PipelineRing) {
	p.row("RING", "USED", "SIZE", "FILL")
	for _, ring := range rings {
		fill := "unknown"
		if ring.Size > 0 {
			fill = fmt.Sprintf("%.1f %%", 100*float64(ring.Used)/float64(ring.Size))
		}
		p.row(ring.Ring, size(ring.Used), size(ring.Size), fill)
	}
}

// memoryText tells the memory of the sensor in a phrase.
func memoryText(m *introspect.SensorMemory) string {
	text := fmt.Sprintf("%s, %s of it BPF maps", sizeOf(m.Sensor), sizeOf(m.BPF))
	if m.Usage != nil {
		text += ", cgroup " + size(*m.Usage)
		if m.Limit != nil {
			text += " of " + size(*m.Limit)
		}
	}
	return text
}
