package main

import (
	"context"
	"fmt"
	"time"

	"github.com/sonde-ebpf/sonde/introspect"
)

// statistics is what `sonde get-statistics --json` prints: the sensor's own answers.
type statistics struct {
	Pipeline introspect.Pipeline `json:"pipeline"`
	Sensor   introspect.Sensor   `json:"sensor"`
}

func (c *cli) addStatistics() {
	c.ask(c.app.Command("get-statistics", "Print the sensor's ledgers: events by point, sessions, tables, programs, maps."), runStatistics)
}

func runStatistics(ctx context.Context, q *asking) error {
	if err := q.connect(ctx); err != nil {
		return err
	}
	var s statistics
	if err := q.get(ctx, "/state/pipeline", &s.Pipeline); err != nil {
		return err
	}
	if err := q.get(ctx, "/state/sensor", &s.Sensor); err != nil {
		return err
	}
	return q.show(s, s.write)
}

func (s *statistics) write(p *page) {
	l := &s.Pipeline
	p.row("uptime", age(time.Since(s.Sensor.Started)))
	p.row("memory", memoryText(&s.Sensor.Memory))
	p.row("reader", fmt.Sprintf("%d read, %d undecodable", l.Reader.Read, l.Reader.Undecodable))
	p.row("canary", fmt.Sprintf("%d arrived, %d lost", l.Canary.Arrived, l.Canary.Lost))
	p.row("reports", fmt.Sprintf("%d active, %d ended, %d deferred, %d missed", l.Reports.Active, l.Reports.Ended, l.Reports.Deferred, l.Reports.Missed))
	p.gap()
	writeRings(p, l.Rings)
	p.gap()
	p.row("POINT", "ATTEMPTED", "SUBMITTED", "DROPPED", "DECODED")
	for _, r := range l.Points {
		p.row(r.Point, r.Attempted, r.Submitted, r.Dropped, r.Decoded)
	}
	if len(l.Sessions) > 0 {
		p.gap()
		p.row("SESSION", "SINK", "MATCHED", "DELIVERED", "FILTERED", "DROPPED", "QUEUED", "CAPACITY")
	}
	for _, r := range l.Sessions {
		p.row(r.Session, r.Sink, r.Matched, r.Delivered, r.Filtered, r.Dropped, r.Queued, r.Capacity)
	}
	p.gap()
	p.row("TABLE", "ENTRIES", "MAX", "EVICTIONS", "DRIFT")
	for _, r := range l.State {
		p.row(r.Table, r.Entries, r.Max, r.Evictions, r.Drift)
	}
	s.writeKernel(p)
}

// writeKernel shows what the sensor costs in the kernel.
func (s *statistics) writeKernel(p *page) {
	p.gap()
	p.row("PROGRAM", "RUNS", "NS PER RUN", "MISSED")
	for _, r := range s.Sensor.Programs {
		per := ""
		if r.Runs > 0 {
			per = fmt.Sprintf("%.0f", r.Seconds*1e9/float64(r.Runs))
		}
		p.row(r.Program, r.Runs, per, r.Missed)
	}
	p.gap()
	p.row("MAP", "ENTRIES", "MAX", "MEMORY", "FAILURES")
	for _, r := range s.Sensor.Maps {
		entries := ""
		if r.Entries != nil {
			entries = fmt.Sprint(*r.Entries)
		}
		p.row(r.Map, entries, r.MaxEntries, size(r.Memory), r.Failures)
	}
}
