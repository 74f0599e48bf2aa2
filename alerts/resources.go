package alerts

import (
	"fmt"
	"time"
)

// resources is about what a sensor costs, and what it may.
func resources() []Alert {
	return expanded([]Alert{
		{
			Name: "SondeMemoryNearLimit", Severity: Warning, For: 15 * time.Minute, Dashboard: "sonde-sensor",
			Expr:        fmt.Sprintf(`instance:sonde_sensor_memory:ratio{S} > %v`, MemoryFill),
			Summary:     "A sensor is about to reach its memory limit.",
			Description: "{{ $labels.instance }} needs {{ $value | humanizePercentage }} of its memory limit.",
		},
		{
			Name: "SondeShedding", Severity: Warning, For: 10 * time.Minute, Dashboard: "sonde-sensor",
			Expr:        `sonde_sensor_shed_level{S} > 0`,
			Summary:     "A sensor sheds load to stay within its memory limit.",
			Description: "{{ $labels.instance }} sheds load at level {{ $value }} of 3.",
		},
		{
			Name: "SondeEventsShed", Severity: Critical, For: 2 * time.Minute, Dashboard: "sonde-sensor",
			Expr:        `sonde_sensor_shed_level{S} == 3`,
			Summary:     "A sensor has stopped all events to stay within its memory limit.",
			Description: "{{ $labels.instance }} has no memory for events; only its counters go on.",
		},
		{
			Name: "SondeCPUHigh", Severity: Warning, For: 15 * time.Minute, Dashboard: "sonde-sensor",
			Expr:        fmt.Sprintf(`rate(process_cpu_seconds_total{S}[5m]) > %v`, CPUCores),
			Summary:     "A sensor needs much processor time.",
			Description: "{{ $labels.instance }} keeps {{ $value | printf \"%.2f\" }} cores busy.",
		},
		{
			Name: "SondeBPFOverheadHigh", Severity: Warning, For: 15 * time.Minute, Dashboard: "sonde-sensor",
			Expr:        fmt.Sprintf(`instance:sonde_bpf_run:ratio_rate5m{S} > %v`, BPFCores),
			Summary:     "The programs of a sensor cost the kernel much time.",
			Description: "The programs of {{ $labels.instance }} keep {{ $value | printf \"%.2f\" }} cores of the node busy.",
		},
		{
			Name: "SondeCPUThrottled", Severity: Info, For: 15 * time.Minute, Dashboard: "sonde-sensor",
			Expr:        fmt.Sprintf(`rate(sonde_sensor_cpu_throttled_seconds_total{S}[5m]) > %v`, ThrottleRatio),
			Summary:     "The CPU quota keeps a sensor from running.",
			Description: "{{ $labels.instance }} waited for its quota {{ $value | humanizePercentage }} of the time.",
		},
		{
			Name: "SondeScrapeSlow", Severity: Warning, For: 15 * time.Minute, Dashboard: "sonde-sensor",
			Expr:        fmt.Sprintf(`scrape_duration_seconds{S} > %v`, ScrapeSeconds),
			Summary:     "Scraping a sensor takes long.",
			Description: "A scrape of {{ $labels.instance }} takes {{ $value | humanizeDuration }}.",
		},
		{
			Name: "SondeScrapeTooLarge", Severity: Warning, For: 15 * time.Minute, Dashboard: "sonde-sensor",
			Expr:        fmt.Sprintf(`scrape_samples_scraped{S} > %d`, ScrapeSamples),
			Summary:     "A scrape of a sensor is large.",
			Description: "A scrape of {{ $labels.instance }} brings {{ $value | humanize }} samples.",
		},
		{
			Name: "SondeSeriesLimited", Severity: Info, For: 15 * time.Minute, Dashboard: "sonde-sensor",
			Expr:        `increase(sonde_series_limited_total{S}[15m]) > 0`,
			Summary:     "A metric has reached its bound of series.",
			Description: "{{ $labels.family }} of {{ $labels.instance }} has more label sets than it may have; the rest is added up as other.",
		},
		{
			Name: "SondeFileDescriptorsNearLimit", Severity: Warning, For: 15 * time.Minute, Dashboard: "sonde-sensor",
			Expr:        `process_open_fds{S} / process_max_fds{S} > 0.8`,
			Summary:     "A sensor is about to run out of file descriptors.",
			Description: "{{ $labels.instance }} has {{ $value | humanizePercentage }} of its file descriptors open.",
		},
		{
			Name: "SondeGoroutineLeak", Severity: Info, For: time.Hour, Dashboard: "sonde-sensor",
			Expr:        `go_goroutines{S} > 5000`,
			Summary:     "A sensor has very many goroutines.",
			Description: "{{ $labels.instance }} has {{ $value | humanize }} goroutines.",
		},
		{
			Name: "SondeProcfsErrors", Severity: Warning, For: 10 * time.Minute, Dashboard: "sonde-sensor",
			Expr:        `increase(sonde_procfs_errors_total{S}[10m]) > 0`,
			Summary:     "A sensor cannot read files about itself.",
			Description: "{{ $labels.instance }} cannot read {{ $labels.operation }}; what it tells of its own cost is incomplete.",
		},
	})
}
