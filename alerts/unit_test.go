package alerts_test

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"github.com/sonde-ebpf/sonde/alerts"
)

// unitCase says of one alert when it fires, and when it only seems to have to. Series
// are written as promtool does, a sample a minute, with {S for the target's labels.
type unitCase struct {
	alert  string
	fault  []string // fires
	near   []string // does not, at the same time
	at     time.Duration
	labels map[string]string // besides its own and the target's
	target string            // "" for one sensor, "job" or "none"
	text   string            // the description
}

type promtoolFile struct {
	RuleFiles []string       `yaml:"rule_files"`
	Interval  string         `yaml:"evaluation_interval"`
	Order     []string       `yaml:"group_eval_order"`
	Fuzzy     bool           `yaml:"fuzzy_compare"`
	Tests     []promtoolTest `yaml:"tests"`
}

type promtoolTest struct {
	Name     string           `yaml:"name"`
	Interval string           `yaml:"interval"`
	Series   []promtoolSeries `yaml:"input_series"`
	Expected []promtoolAlert  `yaml:"alert_rule_test"`
}

type promtoolSeries struct {
	Series string `yaml:"series"`
	Values string `yaml:"values"`
}

type promtoolAlert struct {
	At     string         `yaml:"eval_time"`
	Alert  string         `yaml:"alertname"`
	Alerts []promtoolFire `yaml:"exp_alerts"`
}

type promtoolFire struct {
	Labels      map[string]string `yaml:"exp_labels"`
	Annotations map[string]string `yaml:"exp_annotations"`
}

const instance = "n:9743"

// unitTests renders the tests of alerts for promtool: each fires, does not fire before
// its time, and does not fire at what comes near.
func unitTests(rules, every string, groups []alerts.Group, all []unitCase) ([]byte, error) {
	file := promtoolFile{RuleFiles: []string{rules}, Interval: every, Fuzzy: true}
	for _, g := range groups {
		file.Order = append(file.Order, g.Name)
	}
	known := byName(groups)
	for _, c := range all {
		a, err := c.rule(known[c.alert])
		if err != nil {
			return nil, err
		}
		file.Tests = append(file.Tests, c.tests(a)...)
	}
	b := bytes.NewBufferString("# Generated from alerts/cases_test.go: promtool test rules alerts/rules*_test.yml\n")
	e := yaml.NewEncoder(b)
	e.SetIndent(2)
	err := e.Encode(file)
	return b.Bytes(), err
}

// rule finds the rule among those of its name, which differ by the labels they add.
func (c unitCase) rule(rules []alerts.Alert) (alerts.Alert, error) {
	for _, a := range rules {
		same := true
		for name, value := range a.Labels {
			same = same && c.labels[name] == value
		}
		if same {
			return a, nil
		}
	}
	return alerts.Alert{}, fmt.Errorf("case %s: no such alert", c.alert)
}

func (c unitCase) tests(a alerts.Alert) []promtoolTest {
	at := cmp.Or(c.at, a.For+20*time.Minute)
	fires := promtoolTest{Name: c.alert, Interval: "1m", Series: asSeries(c.fault, instance), Expected: []promtoolAlert{
		{model.Duration(at).String(), c.alert, []promtoolFire{c.fire(a)}},
	}}
	if a.For > 0 { // it is patient
		fires.Expected = append(fires.Expected, promtoolAlert{model.Duration(a.For - time.Minute).String(), c.alert, []promtoolFire{}})
	}
	if c.target == "" { // beside a sensor that has no fault
		fires.Series = append(fires.Series, asSeries(c.near, "near:9743")...)
		return []promtoolTest{fires}
	}
	quiet := promtoolTest{Name: c.alert + " not", Interval: "1m", Series: asSeries(c.near, instance), Expected: []promtoolAlert{
		{model.Duration(at).String(), c.alert, []promtoolFire{}},
	}}
	if c.near == nil {
		return []promtoolTest{fires}
	}
	return []promtoolTest{fires, quiet}
}

func asSeries(all []string, instance string) []promtoolSeries {
	series := []promtoolSeries{}
	for _, s := range all {
		name, values, _ := strings.Cut(s, "  ")
		series = append(series, promtoolSeries{strings.ReplaceAll(name, "{S", `{job="sonde", instance="`+instance+`"`), values})
	}
	return series
}

func (c unitCase) fire(a alerts.Alert) promtoolFire {
	labels := map[string]string{"severity": string(a.Severity)}
	switch c.target {
	case "":
		labels["job"], labels["instance"] = alerts.Job, instance
	case "job":
		labels["job"] = alerts.Job
	}
	maps.Copy(labels, c.labels)
	return promtoolFire{labels, map[string]string{
		"summary": a.Summary, "description": c.text, "runbook_url": a.Runbook(),
		"dashboard_url": strings.ReplaceAll(a.Link(), "{{ $labels.instance }}", instance),
	}}
}

// quick and long part the cases: those that take days are evaluated less often.
func quick(all []unitCase) []unitCase { return slices.DeleteFunc(slices.Clone(all), takesDays) }

func long(all []unitCase) []unitCase {
	return slices.DeleteFunc(slices.Clone(all), func(c unitCase) bool { return !takesDays(c) })
}

func takesDays(c unitCase) bool { return c.at > time.Hour }
