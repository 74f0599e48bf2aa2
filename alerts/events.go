package alerts

import (
	"fmt"
	"time"
)

// eventPath is about events on their way from the kernel to the queues.
func eventPath() []Alert {
	return expanded(append([]Alert{
		{
			Name: "SondeStalled", Severity: Critical, For: 10 * time.Minute, Dashboard: "sonde-pipeline",
			// Canaries alone keep this above 0.
			Expr:        `sum by (I) (rate(sonde_events_decoded_total{S}[5m])) == 0`,
			Summary:     "No event arrives from the kernel.",
			Description: "{{ $labels.instance }} has read no event for a quarter of an hour, not even its own canaries.",
		},
		{
			Name: "SondeCanaryLost", Severity: Warning, For: 5 * time.Minute, Dashboard: "sonde-pipeline",
			Expr:        `increase(sonde_canary_lost_total{S}[10m]) > 0`,
			Summary:     "Canary events do not arrive.",
			Description: "{{ $labels.instance }} has lost {{ $value | humanize }} canaries within 10 minutes.",
		},
		{
			Name: "SondeEventsDropped", Severity: Warning, For: 10 * time.Minute, Dashboard: "sonde-pipeline",
			Expr:        fmt.Sprintf(`instance_stage:sonde_events_dropped:ratio_rate5m{S} > %v`, LossRatio),
			Summary:     "A sensor loses events.",
			Description: "{{ $labels.instance }} loses {{ $value | humanizePercentage }} of its events at the stage {{ $labels.stage }}.",
		},
		{
			Name: "SondeRingNearFull", Severity: Warning, For: 10 * time.Minute, Dashboard: "sonde-pipeline",
			Expr:        fmt.Sprintf(`max_over_time(sonde_ring_used_peak_bytes{S}[5m]) / sonde_ring_size_bytes{S} > %v`, RingFill),
			Summary:     "An event ring is nearly full at its peaks.",
			Description: "The ring {{ $labels.ring }} of {{ $labels.instance }} was {{ $value | humanizePercentage }} full.",
		},
		{
			Name: "SondeEventDelayHigh", Severity: Warning, For: 10 * time.Minute, Dashboard: "sonde-pipeline",
			Expr:        fmt.Sprintf(`instance_stage:sonde_event_delay_seconds:quantile5m{S, quantile="0.99"} > %v`, DelaySeconds),
			Summary:     "Events arrive late.",
			Description: "One event of a hundred of {{ $labels.instance }} is older than {{ $value | humanizeDuration }} at the stage {{ $labels.stage }}.",
		},
		{
			Name: "SondeClockAnomaly", Severity: Warning, For: 10 * time.Minute, Dashboard: "sonde-pipeline",
			Expr:        `increase(sonde_event_clock_anomalies_total{S}[15m]) > 0`,
			Summary:     "Events carry times that cannot be true.",
			Description: "{{ $labels.instance }} got {{ $value | humanize }} events with a time of the kind {{ $labels.kind }} within 15 minutes.",
		},
		{
			Name: "SondeStateEvicting", Severity: Info, For: 15 * time.Minute, Dashboard: "sonde-pipeline",
			Expr:        `increase(sonde_state_evictions_total{S}[15m]) > 0`,
			Summary:     "A table of the picture that introspection shows is too small.",
			Description: "The table {{ $labels.table }} of {{ $labels.instance }} gave up {{ $value | humanize }} entries within 15 minutes.",
		},
	}, budgetBurns()...))
}

// budgetBurns alerts on how fast the budget of lost events is used up: the faster, the
// sooner. Each rate must hold over a long and a short window, so that the alert ends
// soon after the loss.
func budgetBurns() []Alert {
	var all []Alert
	for _, burn := range []struct {
		factor      float64
		long, short string
		hold        time.Duration
		severity    Severity
	}{
		{14.4, "1h", "5m", 2 * time.Minute, Critical},
		{6, "6h", "30m", 15 * time.Minute, Critical},
		{3, "1d", "2h", time.Hour, Warning},
		{1, "3d", "6h", 3 * time.Hour, Warning},
	} {
		all = append(all, Alert{
			Name: "SondeLossBudgetBurn", Severity: burn.severity, For: burn.hold, Dashboard: "sonde-overview",
			Expr: fmt.Sprintf(`job:sonde_events_lost:ratio_rate%[1]s{S} > %[3]v * %[4]v and job:sonde_events_lost:ratio_rate%[2]s{S} > %[3]v * %[4]v`,
				burn.long, burn.short, burn.factor, LossBudget),
			Labels:  map[string]string{"long": burn.long, "short": burn.short},
			Summary: "The fleet loses more events than 99.9 % delivery allows.",
			Description: "{{ $value | humanizePercentage }} of all events were lost within " +
				fmt.Sprintf("%s: %v times what the budget of 30 days allows.", burn.long, burn.factor),
		})
	}
	return all
}
