// Package compare judges whether one build of the sensor costs more than another,
// by runs of both under the same loads.
package compare

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/sonde-ebpf/sonde/bench/load"
)

// ErrInput is in the chain of every error about results that nothing can be said of.
var ErrInput = errors.New("invalid results")

// Machine is where runs were made. Runs of different machines are not compared.
type Machine struct {
	Kernel    string `json:"kernel"`
	Processor string `json:"processor"`
	CPUs      int    `json:"cpus"`
	Memory    uint64 `json:"memory_bytes"`
}

// Base and Head name the builds that are compared where nothing else is said. The trend
// is Head's.
const (
	Base = "base"
	Head = "head"
)

// Run is one measurement: a build under a load, from start to stop.
type Run struct {
	Build    string `json:"build"`
	Workload string `json:"workload"`
	Round    int    `json:"round"`
	// Load is the load that is timed, Beside what ran at the same time.
	Load   load.Result   `json:"load"`
	Beside []load.Result `json:"beside,omitempty"`
	// Agent is what the sensor took; nil where none ran.
	Agent *Cost `json:"agent,omitempty"`
}

// Held reports whether all loads kept up: a run that did not is invalid.
func (r Run) Held() bool {
	return r.Load.Held() && !slices.ContainsFunc(r.Beside, func(l load.Result) bool { return !l.Held() })
}

// Cost is what the sensor took while the load was measured.
type Cost struct {
	CPU            float64 `json:"cpu_percent"` // of one core
	RSS            float64 `json:"rss_bytes"`
	Peak           float64 `json:"peak_bytes"`
	Allocated      float64 `json:"allocated_bytes_per_second"`
	Events         float64 `json:"events"`
	Dropped        float64 `json:"events_dropped"`
	Delay          float64 `json:"event_delay_p99_seconds"`
	ProgramSeconds float64 `json:"bpf_seconds_per_run"` // mean over all programs, sampled
	// Programs is the mean time of each program's runs, in seconds.
	Programs map[string]float64 `json:"programs,omitempty"`
}

// Results are runs that were made together, interleaved.
type Results struct {
	Date     string  `json:"date"` // RFC 3339
	Revision string  `json:"revision,omitempty"`
	Machine  Machine `json:"machine"`
	Runs     []Run   `json:"runs"`
}

// Read reads results. What is not results, or has no runs, is ErrInput.
func Read(r io.Reader) (*Results, error) {
	decoder := json.NewDecoder(r)
	decoder.DisallowUnknownFields()
	var results Results
	if err := decoder.Decode(&results); err != nil {
		return nil, fmt.Errorf("read results: %w: %w", ErrInput, err)
	}
	if len(results.Runs) == 0 {
		return nil, fmt.Errorf("read results: %w: no runs", ErrInput)
	}
	return &results, nil
}

// Write writes results as indented JSON.
func (r *Results) Write(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", " ")
	return encoder.Encode(r)
}

// check finds runs that cannot be compared: too few of a build, or some that fell
// behind their load.
func (r *Results) check(builds ...string) error {
	for _, run := range r.Runs {
		if !slices.Contains(builds, run.Build) {
			continue
		}
		if !run.Held() {
			return fmt.Errorf("compare: %w: %s under %s fell behind in round %d", ErrInput, run.Build, run.Workload, run.Round)
		}
	}
	every := func(Run) (float64, bool) { return 0, true }
	for _, workload := range r.Workloads() {
		for _, build := range builds {
			if n := len(r.values(build, workload, every)); n < minRuns {
				return fmt.Errorf("compare: %w: %d runs of %q under %s, want %d", ErrInput, n, build, workload, minRuns)
			}
		}
	}
	return nil
}

// Workloads returns the names of the loads, in the order in which they first ran.
func (r *Results) Workloads() (names []string) {
	for _, run := range r.Runs {
		if !slices.Contains(names, run.Workload) {
			names = append(names, run.Workload)
		}
	}
	return names
}

// values returns a resource of a build under a load, one value for each run.
func (r *Results) values(build, workload string, of func(Run) (float64, bool)) (values []float64) {
	for _, run := range r.Runs {
		if run.Build != build || run.Workload != workload {
			continue
		}
		if v, ok := of(run); ok {
			values = append(values, v)
		}
	}
	return values
}
