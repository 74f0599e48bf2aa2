package promtest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/sonde-ebpf/sonde/alerts"
	"github.com/sonde-ebpf/sonde/collectors"
	"github.com/sonde-ebpf/sonde/exporter"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

// kind is what a series holds.
type kind int

const (
	unknown kind = iota // of others, or the result of a rule
	counter
	gauge
	histogram
	bucket // classic buckets
)

// series is what is known of a metric.
type series struct {
	kind   kind
	labels map[string][]string // values of an enumeration; nil where it is none
}

// Catalogue is the metrics that expressions may use.
type Catalogue struct {
	series map[string]series
}

// target are the labels that scraping and relabelling add to every series.
var target = []string{"cluster", "instance", "job", "node"}

// New returns a catalogue of families. With target every series has the labels of
// its target too, as it has once it was scraped.
func New(families []metric.Family, scraped bool) *Catalogue {
	c := &Catalogue{series: map[string]series{}}
	for _, f := range families {
		all := map[string][]string{}
		for _, l := range f.Labels {
			all[l.Name] = l.Values
		}
		if scraped {
			for _, l := range target {
				all[l] = nil
			}
		}
		k := [...]kind{metric.TypeCounter: counter, metric.TypeGauge: gauge, metric.TypeHistogram: histogram}[f.Type]
		c.series[f.Name] = series{k, all}
		if k == histogram && scraped {
			classic := map[string][]string{"le": nil}
			maps.Copy(classic, all)
			c.series[f.Name+"_bucket"] = series{bucket, classic}
		}
	}
	return c
}

// Scraped returns everything that queries of a Prometheus that scrapes the sensor and
// evaluates its rules may use.
func Scraped(tb testing.TB) *Catalogue {
	tb.Helper()
	c := New(slices.Concat(collectors.Declared(), exporter.Declared()), true)
	c.AddServers()
	for _, g := range alerts.Groups() {
		for _, r := range g.Records {
			if err := c.AddRecorded(r.Name, r.Expr, r.Labels); err != nil {
				tb.Error(err)
			}
		}
	}
	return c
}

// Add adds a metric that is not the sensor's own, with the labels of its target and
// those given.
func (c *Catalogue) Add(name string, labels ...string) {
	all := map[string][]string{}
	for _, l := range slices.Concat(target, labels) {
		all[l] = nil
	}
	c.series[name] = series{labels: all}
}

// AddServers adds what Prometheus and the sensor's libraries bring along.
func (c *Catalogue) AddServers() {
	for _, name := range []string{"up", "scrape_duration_seconds", "scrape_samples_scraped"} {
		c.Add(name)
	}
	for _, name := range []string{
		"process_cpu_seconds_total", "process_max_fds", "process_open_fds", "process_resident_memory_bytes", "process_start_time_seconds",
		"go_gc_gomemlimit_bytes", "go_goroutines", "go_memstats_heap_inuse_bytes",
		"go_gc_duration_seconds_sum", "go_gc_duration_seconds_count",
	} {
		c.Add(name)
	}
	c.Add("ALERTS", "alertname", "alertstate", "severity")
	c.Add("kube_node_info")
	c.Add("kube_pod_container_status_restarts_total", "namespace", "pod", "container")
	c.Add("kube_pod_container_status_last_terminated_reason", "namespace", "pod", "container", "reason")
}

// AddRecorded adds the result of a recording rule, with the labels that its
// expression leaves and those that the rule adds. The expression must be right itself.
func (c *Catalogue) AddRecorded(name, expr string, added map[string]string) error {
	labels, err := c.Check(expr)
	if err != nil {
		return fmt.Errorf("record %s: %w", name, err)
	}
	all := map[string][]string{}
	for _, l := range labels {
		all[l] = nil
	}
	for l, value := range added {
		// One name may have rules that add different values.
		all[l] = append(c.series[name].labels[l], value)
	}
	c.series[name] = series{labels: all}
	return nil
}

// Check parses an expression and returns the labels that its result may have, or
// every fault: metrics, labels and values that do not exist, aggregations and matches
// by labels that are not there, and functions of the wrong kind of metric.
func (c *Catalogue) Check(expr string) ([]string, error) {
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", expr, err)
	}
	w := walk{catalogue: c}
	labels := w.labels(parsed)
	if len(w.faults) > 0 {
		return nil, fmt.Errorf("%s: %s", expr, strings.Join(w.faults, "; "))
	}
	return labels, nil
}

// Metrics returns the metrics that an expression names.
func Metrics(expr string) ([]string, error) {
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", expr, err)
	}
	var names []string
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		if v, ok := node.(*parser.VectorSelector); ok {
			names = append(names, v.Name)
		}
		return nil
	})
	slices.Sort(names)
	return slices.Compact(names), nil
}
