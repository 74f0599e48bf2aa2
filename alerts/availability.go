package alerts

import "time"

// availability is about sensors that are not there, or end.
func availability() []Alert {
	return expanded([]Alert{
		{
			Name: "SondeAbsent", Severity: Critical, For: 10 * time.Minute, Dashboard: "sonde-overview",
			Expr:        `absent(up{S})`,
			Summary:     "Prometheus knows no sensor at all.",
			Description: "No target of the job {{ $labels.job }} exists.",
		},
		{
			Name: "SondeDown", Severity: Warning, For: 5 * time.Minute, Dashboard: "sonde-overview",
			Expr:        `up{S} == 0`,
			Summary:     "A sensor cannot be scraped.",
			Description: "{{ $labels.instance }} does not answer.",
		},
		{
			Name: "SondeFleetDown", Severity: Critical, For: 10 * time.Minute, Dashboard: "sonde-overview",
			Expr:        `avg by (cluster, job) (up{S}) < 0.9 and count by (cluster, job) (up{S}) >= 10`,
			Summary:     "More than a tenth of the sensors cannot be scraped.",
			Description: "Only {{ $value | humanizePercentage }} of the sensors answer.",
		},
		{
			Name: "SondeRestarting", Severity: Warning, Dashboard: "sonde-sensor",
			Expr:        `changes(process_start_time_seconds{S}[30m]) > 2`,
			Summary:     "A sensor starts again and again.",
			Description: "{{ $labels.instance }} has started {{ $value }} times within 30 minutes.",
		},
		{
			Name: "SondeOOMKilled", Severity: Warning, Dashboard: "sonde-sensor",
			Expr:        `increase(sonde_sensor_terminations_total{S, reason="oom_kill"}[30m]) > 0`,
			Summary:     "The OOM killer has ended a sensor.",
			Description: "{{ $labels.instance }} was killed for want of memory within the last 30 minutes, and has started again.",
		},
		{
			Name: "SondeCrashed", Severity: Warning, Dashboard: "sonde-sensor",
			Expr:        `increase(sonde_sensor_terminations_total{S, reason=~"crash|error|signal"}[30m]) > 0`,
			Summary:     "A sensor has ended as it should not.",
			Description: "{{ $labels.instance }} ended by {{ $labels.reason }} within the last 30 minutes, and has started again.",
		},
		{
			Name: "SondeDisabled", Severity: Critical, For: 5 * time.Minute, Dashboard: "sonde-pipeline",
			Expr:        `max by (I) (sonde_probe_attached{S}) == 0`,
			Summary:     "A sensor runs and sees nothing.",
			Description: "No probe of {{ $labels.instance }} is attached.",
		},
		{
			Name: "SondeCollectorFailing", Severity: Warning, For: 10 * time.Minute, Dashboard: "sonde-sensor",
			Expr:        `sonde_collector_success{S} == 0`,
			Summary:     "A collector fails at every scrape.",
			Description: "The collector {{ $labels.collector }} of {{ $labels.instance }} fails; its metrics are missing.",
		},
		{
			Name: "SondeConfigReloadFailed", Severity: Warning, For: 5 * time.Minute, Dashboard: "sonde-sensor",
			Expr:        `sonde_config_last_reload_successful{S} == 0`,
			Summary:     "A sensor has refused its configuration.",
			Description: "{{ $labels.instance }} did not take the latest configuration over and works with the one before.",
		},
		{
			Name: "SondeVersionSkew", Severity: Info, For: 24 * time.Hour, Dashboard: "sonde-overview",
			Expr:        `count by (cluster, job) (count by (cluster, job, version) (sonde_build_info{S})) > 2`,
			Summary:     "Sensors of many versions run at once.",
			Description: "{{ $value }} versions have run beside each other for a day.",
		},
		{
			Name: "SondePushFailing", Severity: Warning, For: 10 * time.Minute, Dashboard: "sonde-sensor",
			Expr:        `rate(sonde_push_failures_total{S}[5m]) > 0`,
			Summary:     "A sensor cannot push its metrics.",
			Description: "Pushes of {{ $labels.instance }} fail ({{ $labels.reason }}).",
		},
		{
			Name: "SondeWatchdog", Severity: None, Dashboard: "sonde-overview",
			Expr:        `vector(1)`,
			Summary:     "Alerting works.",
			Description: "This alert always fires; where it does not arrive, no other does.",
		},
	})
}

// expanded writes the expressions of alerts out.
func expanded(all []Alert) []Alert {
	for i := range all {
		all[i].Expr = expand(all[i].Expr)
	}
	return all
}
