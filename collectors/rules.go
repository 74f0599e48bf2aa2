package collectors

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/metric"
	"github.com/sonde-ebpf/sonde/internal/rules"
)

var (
	ruleLabel = metric.Bounded("rule", "names of rules, 256 at a time")

	ruleSetInfo = declared.Gauge("rule_set_info",
		"The set of detection rules in force, constant 1: versions of its files, and the beginning of the hash of their content.",
		metric.Bounded("version", "one set at a time"), metric.Bounded("hash", "one set at a time"))
	ruleSetRules = declared.Gauge("rule_set_rules",
		"Detection rules in force.")
	ruleMatches = declared.Counter("rule_matches_total",
		"Events that fit a detection rule.",
		ruleLabel, metric.Enum("severity", event.AllSeverities()...))
	ruleFailures = declared.Counter("rule_failures_total",
		"Events about which a detection rule could not decide as it should: its condition had no value, or asked for what the kernel could not read.",
		ruleLabel, metric.Enum("reason", rules.AllFailures()...))
)

// RuleSource holds the detection rules in force.
type RuleSource interface {
	Set() *rules.Set
	Counts() []rules.Count
}

// Rules shows what detection rules find. The series of a rule end with it.
type Rules struct {
	source  RuleSource
	created time.Time
}

// NewRules returns the collector; created is when rules were first applied.
func NewRules(source RuleSource, created time.Time) *Rules { return &Rules{source, created} }

// Collect implements Collector.
func (c *Rules) Collect(context.Context) ([]prometheus.Metric, error) {
	set := c.source.Set()
	all := []prometheus.Metric{ruleSetRules.With(float64(set.Len()))}
	if set.Len() > 0 {
		all = append(all, ruleSetInfo.With(1, set.Version, set.ShortHash()))
	}
	reasons := rules.AllFailures()
	for _, n := range c.source.Counts() {
		all = append(all, ruleMatches.WithCreated(float64(n.Matched), c.created, n.Rule, n.Severity.String()))
		for failure, failed := range n.Failed {
			all = append(all, ruleFailures.WithCreated(float64(failed), c.created, n.Rule, reasons[failure]))
		}
	}
	return all, nil
}
