package alerts

import (
	"fmt"
	"time"
)

// sinks is about events on their way out.
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
	})
}
