package agent

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/procfs"
)

// Usage is what the sensor has used up to a moment.
type Usage struct {
	CPU  float64 // seconds of processor time
	RSS  float64 // bytes, now
	Peak float64 // bytes, the most there have been

	Allocated float64            // bytes, of the Go heap
	Events    float64            // that were attempted
	Dropped   float64            // events, at every stage
	RunTime   map[string]float64 // seconds by BPF program, sampled
	Runs      map[string]float64 // of each BPF program, sampled
	delays    map[float64]float64
}

// Usage asks the kernel and the sensor.
func (a *Agent) Usage() (Usage, error) {
	u := Usage{RunTime: map[string]float64{}, Runs: map[string]float64{}, delays: map[float64]float64{}}
	if err := errors.Join(u.scrape(a.url), u.group(a.cmd.Process.Pid)); err != nil {
		return Usage{}, fmt.Errorf("measure sensor: %w", err)
	}
	return u, nil
}

// group adds up the processes of the sensor's group.
func (u *Usage) group(leader int) error {
	processes, err := procfs.AllProcs()
	if err != nil {
		return err
	}
	for _, p := range processes {
		stat, err := p.Stat()
		if err != nil || stat.PGRP != leader {
			continue // it may have ended since
		}
		status, err := p.NewStatus()
		if err != nil {
			return err
		}
		u.CPU += stat.CPUTime()
		u.RSS += float64(status.VmRSS)
		u.Peak += float64(status.VmHWM)
	}
	if u.RSS == 0 {
		return fmt.Errorf("process group %d is gone", leader)
	}
	return nil
}

func (u *Usage) scrape(url string) error {
	res, err := http.Get(url)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("scrape: %s", res.Status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(res.Body)
	if err != nil {
		return fmt.Errorf("scrape: %w", err)
	}
	u.Allocated = sum(families["go_memstats_alloc_bytes_total"])
	u.Events = sum(families["sonde_events_attempted_total"])
	u.Dropped = sum(families["sonde_events_dropped_total"])
	for _, m := range families["sonde_bpf_program_run_seconds_total"].GetMetric() {
		u.RunTime[label(m, "program")] = m.GetCounter().GetValue()
	}
	for _, m := range families["sonde_bpf_program_runs_total"].GetMetric() {
		u.Runs[label(m, "program")] = m.GetCounter().GetValue()
	}
	for _, m := range families["sonde_event_delay_seconds"].GetMetric() {
		if label(m, "stage") == "ring" {
			for _, b := range m.GetHistogram().GetBucket() {
				u.delays[b.GetUpperBound()] += float64(b.GetCumulativeCount())
			}
		}
	}
	return nil
}

// Delay returns the bound of the bucket in which a quantile lies of how late events
// left the ring since an earlier moment, in seconds; 0 where there were none.
func (u Usage) Delay(quantile float64, since Usage) float64 {
	total := u.delays[math.Inf(1)] - since.delays[math.Inf(1)]
	for _, bound := range slices.Sorted(maps.Keys(u.delays)) {
		if total > 0 && u.delays[bound]-since.delays[bound] >= quantile*total {
			return bound
		}
	}
	return 0
}

func sum(f *dto.MetricFamily) (total float64) {
	for _, m := range f.GetMetric() {
		total += m.GetCounter().GetValue()
	}
	return total
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}
