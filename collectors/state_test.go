package collectors_test

import (
	"strings"
	"testing"

	"github.com/sonde-ebpf/sonde/collectors"
	"github.com/sonde-ebpf/sonde/internal/metric"
	"github.com/sonde-ebpf/sonde/internal/state"
)

var (
	_ collectors.TableSource  = (*state.Store)(nil)
	_ collectors.ReportSource = (*state.Reporter)(nil)
)

// fakeState is a picture and its reports.
type fakeState struct {
	tables   []state.TableStat
	networks int
	reports  state.ReportStats
}

func (f fakeState) Tables() []state.TableStat { return f.tables }
func (f fakeState) KnownNetworks() int        { return f.networks }
func (f fakeState) Stats() state.ReportStats  { return f.reports }

// idleState is a picture of nothing.
func idleState() fakeState {
	return fakeState{tables: []state.TableStat{{Table: "process", Max: 65536}, {Table: "connection", Max: 262144}, {Table: "endpoint", Max: 16384}}}
}

// busyState is one that was full once.
func busyState() fakeState {
	f := idleState()
	f.tables[1] = state.TableStat{Table: "connection", Entries: 1234, Max: 262144, Evictions: 5, Drift: 6}
	f.networks, f.reports = 7, state.ReportStats{Deferred: 8, Missed: 9}
	return f
}

func TestState(t *testing.T) {
	all := mustCollect(t, collectors.NewState(busyState(), busyContainers(), busyState()))
	for family, want := range map[string]float64{
		"sonde_state_entries": 1234, "sonde_state_max_entries": 262144, "sonde_state_evictions_total": 5, "sonde_state_drift_total": 6,
	} {
		if got := value(t, all, family, "connection"); got != want {
			t.Errorf("%s: %v, want %v", family, got, want)
		}
	}
	if got := value(t, all, "sonde_connection_reports_deferred_total"); got != 8 {
		t.Errorf("deferred: %v, want 8", got)
	}
	if got := value(t, all, "sonde_connection_reports_missed_total"); got != 9 {
		t.Errorf("missed: %v, want 9", got)
	}
}

// TestStateAlone: what nobody keeps is absent, not 0.
func TestStateAlone(t *testing.T) {
	for _, m := range mustCollect(t, collectors.NewState(busyState(), nil, nil)) {
		s := m.(*metric.Series)
		if len(s.LabelValues()) > 0 && s.LabelValues()[0] == "container" || strings.HasPrefix(s.Family().Name, "sonde_connection_reports_") {
			t.Errorf("%s%q is shown", s.Family().Name, s.LabelValues())
		}
	}
}
