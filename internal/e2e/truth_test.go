package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/sonde-ebpf/sonde/alerts"
	"github.com/sonde-ebpf/sonde/dashboards"
	"github.com/sonde-ebpf/sonde/internal/procfs"
	"github.com/sonde-ebpf/sonde/internal/promtest"
)

// Rules are evaluated with all times this many times shorter, and no window shorter
// than a few scrapes, which are a second apart.
const (
	haste       = 60
	leastWindow = 5 * time.Second
)

// hasty returns the rules as a file in which all times are shorter.
func hasty(t *testing.T) []byte {
	t.Helper()
	groups := alerts.Groups()
	for _, g := range groups {
		for i := range g.Records {
			g.Records[i].Expr = sooner(t, g.Records[i].Expr)
		}
		for i := range g.Alerts {
			g.Alerts[i].Expr = sooner(t, g.Alerts[i].Expr)
			g.Alerts[i].For /= haste
		}
	}
	content, err := alerts.Rules(groups)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func sooner(t *testing.T, expr string) string {
	t.Helper()
	e, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		t.Fatal(err)
	}
	parser.Inspect(e, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			n.OriginalOffset /= haste
		case *parser.MatrixSelector:
			n.Range = max(n.Range/haste, leastWindow)
		case *parser.SubqueryExpr:
			n.Range, n.Step = max(n.Range/haste, leastWindow), max(n.Step/haste, time.Second)
		}
		return nil
	})
	return e.String()
}

// fault is what befalls one of several sensors.
type fault struct {
	fires   []string // alerts that must fire for it
	implies []string // alerts that may fire besides
}

// faults by the name of the sensor that has it. No other alert may fire.
var faults = map[string]fault{
	"well":    {},
	"stopped": {fires: []string{"SondeDown"}},
	"killed":  {fires: []string{"SondeOOMKilled"}, implies: []string{"SondeDown"}}, // down until it is started again
	// In its small cgroup the tables are small as well.
	"refused": {fires: []string{"SondeProbeNotAttached"}, implies: []string{"SondeStateEvicting"}},
	"reload":  {fires: []string{"SondeConfigReloadFailed"}},
	"sink":    {fires: []string{"SondeSinkErrors", "SondeSinkDown"}, implies: []string{"SondeEventsDropped"}}, // its losses are counted
	// Stopped three quarters of the time: the ring fills, canaries and events are lost,
	// a scrape may come too late.
	"stalled": {
		fires:   []string{"SondeEventsDropped", "SondeRingNearFull"},
		implies: []string{"SondeCanaryLost", "SondeDown", "SondeClockAnomaly"},
	},
	// About all sensors together.
	"": {fires: []string{"SondeWatchdog"}, implies: []string{"SondeLossBudgetBurn"}},
}

// unrelated may fire for any of them: they are about the machine, which other programs
// share, or take minutes of calm to say anything.
var unrelated = []string{
	"SondeCPUHigh", "SondeBPFOverheadHigh", "SondeScrapeSlow", // a slow machine with seven sensors
	"SondeConnectionRateAnomaly", "SondeSyscallLatencyRegression", // a day is 24 minutes here
	"SondeContainerRuntimeDown", "SondeEnrichmentFailing", // runtimes of the machine
	"SondeSeriesLimited", "SondeProgramMissedRuns", // what runs on the machine
}

// dataless are the panels whose queries may have no data, with why. What this machine
// lacks besides is in absent.
var dataless = map[string]string{
	"Calls, now and a day ago": "nothing is a day old",
	"Go heap and its limit":    "without a memory limit there is none",
	"Container runtimes":       "a machine without any",
	"Memory against its limit": "a machine without a memory controller",
}

// The dashboards show what there is, and the alerts say what is wrong: several sensors,
// each with a fault of its own, before two real Prometheus servers, one that scrapes
// native histograms and one that does not.
func TestDashboardsAndAlertsTellTheTruth(t *testing.T) {
	fleet := newFleet(t)
	rules := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(rules, hasty(t), 0o600); err != nil {
		t.Fatal(err)
	}
	servers := map[bool]*prometheus{}
	for _, native := range []bool{true, false} {
		servers[native] = runPrometheus(t, fleet.config(native, rules))
	}
	for _, p := range servers {
		p.waitFor(t, "the first scrapes", func() bool {
			v, ok := p.query(t, `count(up{job="sonde"} == 1)`)
			return ok && int(v) == len(fleet)
		})
	}
	fleet.work(t)
	for native, p := range servers {
		t.Run(fmt.Sprintf("panels, native=%v", native), func(t *testing.T) { p.answersPanels(t, native) })
	}
	fleet.befall(t)
	seen := map[bool]map[string][]string{true: {}, false: {}}
	waitFor(t, time.Minute, func() error {
		var missing []error
		for native, p := range servers {
			p.note(t, seen[native])
			for name, f := range faults {
				for _, alert := range f.fires {
					if !slices.Contains(seen[native][name], alert) {
						missing = append(missing, fmt.Errorf("native=%v: %s does not fire for %q", native, alert, name))
					}
				}
			}
		}
		return errors.Join(missing...)
	})
	for native, found := range seen {
		for name, fired := range found {
			for _, alert := range fired {
				f := faults[name]
				if !slices.Contains(slices.Concat(f.fires, f.implies, unrelated), alert) {
					t.Errorf("native=%v: %s fires for %q, which does not imply it", native, alert, name)
				}
			}
		}
	}
}

// note adds the alerts that fire now, by instance.
func (p *prometheus) note(t *testing.T, seen map[string][]string) {
	t.Helper()
	for _, s := range p.samples(t, `ALERTS{alertstate="firing"}`) {
		name, alert := s.Metric["instance"], s.Metric["alertname"]
		if !slices.Contains(seen[name], alert) {
			seen[name] = append(seen[name], alert)
		}
	}
}

// answersPanels wants data for every query of every panel, sooner or later (the cost of
// programs is measured in one second out of ten), and a healthy state of every rule.
func (p *prometheus) answersPanels(t *testing.T, native bool) {
	variables := strings.NewReplacer("$__rate_interval", "10s", "$__range", "1m", "$cluster", ".*", "$job", ".+", "$instance", "well", "$syscall", ".+")
	machine := procfs.New(procfs.Options{})
	answered := map[dashboards.Query]bool{}
	waitUntil(t, func() error {
		var faults []error
		for _, q := range dashboards.Queries() {
			if answered[q] {
				continue
			}
			samples := p.samples(t, variables.Replace(q.Expr))
			switch {
			case len(samples) == 0 && dataless[q.Panel] == "" && !lacking(t, machine, q.Expr):
				faults = append(faults, fmt.Errorf("%s, %s: no data: %s", q.Dashboard, q.Panel, q.Expr))
			case len(samples) > 0 && q.Heatmap && native != (samples[0].Histogram != nil):
				faults = append(faults, fmt.Errorf("%s, %s: native=%v, and the answer is %v", q.Dashboard, q.Panel, native, samples[0]))
			default:
				answered[q] = true
			}
		}
		return errors.Join(faults...)
	})
	p.rulesAreHealthy(t)
}

// lacking tells whether the machine lacks a metric that a query needs, itself or in a
// recording rule.
func lacking(t *testing.T, machine procfs.FS, expr string) bool {
	t.Helper()
	expr = strings.NewReplacer("$__rate_interval", "1m", "$__range", "1m").Replace(expr)
	names, err := promtest.Metrics(expr)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if gone := absent[name]; gone != nil && gone(machine) {
			return true
		}
		for _, r := range alerts.Groups()[0].Records {
			if r.Name == name && lacking(t, machine, r.Expr) {
				return true
			}
		}
	}
	return false
}

// rulesAreHealthy wants every rule evaluated without an error.
func (p *prometheus) rulesAreHealthy(t *testing.T) {
	t.Helper()
	res, err := http.Get(p.url + "/api/v1/rules")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var answer struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	var healthy int
	for _, g := range answer.Data.Groups {
		for _, r := range g.Rules {
			if r.Health != "ok" {
				t.Errorf("rule %s is %s: %s", r.Name, r.Health, r.LastError)
			}
			healthy++
		}
	}
	if healthy == 0 {
		t.Error("no rule was loaded")
	}
}
