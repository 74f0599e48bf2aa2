package alerts

import (
	"fmt"
	"time"
)

// sinks is about events on their way out, and what rules find in them.
func sinks() []Alert {
	return expanded([]Alert{
		{
			Name: "SondeSinkDown", Severity: Critical, For: 10 * time.Minute, Dashboard: "sonde-security",
			Expr:        `sonde_sink_up{S} == 0`,
			Summary:     "A sink takes no event any more.",
			Description: "The sink {{ $labels.sink }} of the session {{ $labels.session }} on {{ $labels.instance }} hands nothing over.",
		},
		{
			Name: "SondeSinkErrors", Severity: Warning, For: 10 * time.Minute, Dashboard: "sonde-security",
			Expr:        `rate(sonde_sink_errors_total{S, class!="rate_limited"}[5m]) > 0`,
			Summary:     "A sink loses events.",
			Description: "The sink {{ $labels.sink }} of the session {{ $labels.session }} on {{ $labels.instance }} fails: {{ $labels.class }}.",
		},
		{
			Name: "SondeQueueNearFull", Severity: Warning, For: 10 * time.Minute, Dashboard: "sonde-pipeline",
			Expr:        fmt.Sprintf(`sonde_session_queue_length{S} / (sonde_session_queue_capacity{S} > 0) > %v`, QueueFill),
			Summary:     "The queue of a sink is filling.",
			Description: "The queue of {{ $labels.session }}, {{ $labels.sink }} on {{ $labels.instance }} is {{ $value | humanizePercentage }} full.",
		},
		{
			Name: "SondeRuleMatched", Severity: Critical, Dashboard: "sonde-security",
			// The alert has a severity of its own, which would hide the rule's.
			Expr: `label_replace(increase(sonde_rule_matches_total{S, severity=~"high|critical"}[5m]) > 0,` +
				` "rule_severity", "$1", "severity", "(.*)")`,
			Summary:     "A detection rule of high severity matches.",
			Description: "{{ $labels.rule }} ({{ $labels.rule_severity }}) matched {{ $value | humanize }} times on {{ $labels.instance }} within 5 minutes.",
		},
		{
			Name: "SondeRuleFailing", Severity: Warning, For: 10 * time.Minute, Dashboard: "sonde-security",
			Expr:        `increase(sonde_rule_failures_total{S}[10m]) > 0`,
			Summary:     "A detection rule cannot decide.",
			Description: "{{ $labels.rule }} could not decide {{ $value | humanize }} times on {{ $labels.instance }} within 10 minutes: {{ $labels.reason }}.",
		},
	})
}
