package collectors_test

import (
	"testing"

	"github.com/sonde-ebpf/sonde/collectors"
	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

// TestEveryFamilyIsShown: what is declared can be had.
func TestEveryFamilyIsShown(t *testing.T) {
	shown := collect(t, busy())
	for _, f := range collectors.Declared() {
		if len(shown[f.Name]) == 0 {
			t.Errorf("%s is declared and never shown", f.Name)
		}
	}
}

// incomplete lists the families whose enumerations do not all have a series from the
// start, with the reason why.
var incomplete = map[string]string{
	"sonde_events_dropped_total":                      "a reason belongs to one stage; a record without a point is lost at decoding",
	"sonde_event_step_seconds":                        "the points and steps that are measured: not the canary",
	"sonde_container_runtime_up":                      "a runtime has one reason at a time",
	"sonde_host_cgroup_visible":                       "there is one reason at a time",
	"sonde_endpoints":                                 "UDP sockets do not listen",
	"sonde_sensor_memory_events_total":                "what the kernel counts",
	"sonde_sensor_last_termination_timestamp_seconds": "a time that is not known is absent",
	"sonde_sensor_pressure_seconds_total":             "what the kernel counts",
}

// TestEnumerationsAreCompleteFromTheStart: a counter that appears with its first
// increment hides that increment from rate and increase.
func TestEnumerationsAreCompleteFromTheStart(t *testing.T) {
	shown := collect(t, idle())
	for _, f := range collectors.Declared() {
		want := product(f.Labels)
		if got := len(shown[f.Name]); want > 0 && got != want && incomplete[f.Name] == "" && len(f.Labels) > 0 {
			t.Errorf("%s: %d series before anything has happened, want %d", f.Name, got, want)
		}
	}
	after := event.Losses - int(event.LossFull) // those after decoding
	if got, want := len(shown["sonde_events_dropped_total"]), event.Points*(1+after)+1; got != want {
		t.Errorf("sonde_events_dropped_total: %d series, want %d", got, want)
	}
}

// product returns the number of combinations, 0 if a label is no enumeration.
func product(labels []metric.Label) int {
	n := 1
	for _, l := range labels {
		n *= len(l.Values)
	}
	return n
}

// TestBudgets: a family whose labels come from what is observed has a budget, whose
// use is shown from the start; no other family has one.
func TestBudgets(t *testing.T) {
	limited := map[string]bool{}
	for _, s := range collect(t, idle())["sonde_series_limited_total"] {
		limited[s.LabelValues()[0]] = true
		if s.Value() != 0 {
			t.Errorf("%v: %v before anything has happened", s.LabelValues(), s.Value())
		}
	}
	for _, f := range catalogue() {
		if f.Budgeted() != limited[f.Name] {
			t.Errorf("%s: has an open label: %v, has a budget: %v", f.Name, f.Budgeted(), limited[f.Name])
		}
	}
}
