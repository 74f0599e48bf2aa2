package alerts

import (
	"fmt"
	"time"
)

// kernelSide is about probes, programs and maps.
func kernelSide() []Alert {
	return expanded([]Alert{
		{
			Name: "SondeProbeNotAttached", Severity: Warning, For: 5 * time.Minute, Dashboard: "sonde-pipeline",
			Expr:        `sonde_probe_attached{S} == 0`,
			Summary:     "A probe is not attached.",
			Description: "The probe {{ $labels.probe }} of {{ $labels.instance }} is not attached; its metrics and events are missing.",
		},
		{
			Name: "SondeProgramMissedRuns", Severity: Warning, For: 15 * time.Minute, Dashboard: "sonde-pipeline",
			// A twin, or a count of its own, makes up for the runs of these that are skipped.
			Expr:        `rate(sonde_bpf_program_missed_total{S, program!~"tcp_inet_sock_set_state.*|drops_kfree_skb"}[5m]) > 0`,
			Summary:     "The kernel skips runs of a program: counts are missing.",
			Description: "The kernel skips {{ $value | printf \"%.2f\" }} runs per second of {{ $labels.program }} on {{ $labels.instance }}.",
		},
		{
			Name: "SondeMapNearFull", Severity: Warning, For: 15 * time.Minute, Dashboard: "sonde-pipeline",
			Expr:        fmt.Sprintf(`sonde_bpf_map_entries{S} / (sonde_bpf_map_max_entries{S} > 0) > %v`, MapFill),
			Summary:     "A map of the kernel side is nearly full.",
			Description: "The map {{ $labels.map }} of {{ $labels.instance }} is {{ $value | humanizePercentage }} full.",
		},
		{
			Name: "SondeMapUpdateFailures", Severity: Warning, For: 10 * time.Minute, Dashboard: "sonde-pipeline",
			Expr:        `rate(sonde_bpf_map_update_failures_total{S}[5m]) > 0`,
			Summary:     "A map of the kernel side has no room: counts are incomplete.",
			Description: "{{ $value | printf \"%.2f\" }} entries per second find no room in the map {{ $labels.map }} of {{ $labels.instance }}.",
		},
		{
			Name: "SondeContainerRuntimeDown", Severity: Warning, For: 15 * time.Minute, Dashboard: "sonde-pipeline",
			Expr:        `sonde_container_runtime_up{S, reason!="unused"} == 0`,
			Summary:     "A container runtime does not answer the sensor.",
			Description: "{{ $labels.runtime }} does not answer {{ $labels.instance }} ({{ $labels.reason }}); containers have ids and no names.",
		},
		{
			Name: "SondeEnrichmentFailing", Severity: Warning, For: 15 * time.Minute, Dashboard: "sonde-pipeline",
			Expr: fmt.Sprintf(`sum by (I, runtime) (rate(sonde_container_lookups_total{S, result=~"error|timeout"}[5m]))`+
				` / (sum by (I, runtime) (rate(sonde_container_lookups_total{S, result=~"found|not_found|error|timeout"}[5m])) > 0) > %v`, LookupErrors),
			Summary:     "Containers cannot be looked up.",
			Description: "{{ $value | humanizePercentage }} of the calls of {{ $labels.instance }} to {{ $labels.runtime }} fail.",
		},
		{
			Name: "SondeGVisorSilent", Severity: Warning, For: 15 * time.Minute, Dashboard: "sonde-security",
			Expr:        `sonde_gvisor_silent_connections{S} > 0`,
			Summary:     "A gVisor sandbox is connected and says nothing.",
			Description: "{{ $value }} sandboxes of {{ $labels.instance }} are connected and have never sent a message.",
		},
		{
			Name: "SondeGVisorOrphaned", Severity: Warning, For: 15 * time.Minute, Dashboard: "sonde-security",
			Expr:        `sonde_gvisor_orphaned_sandboxes{S} > 0`,
			Summary:     "gVisor sandboxes have lost the sensor.",
			Description: "{{ $value }} sandboxes of {{ $labels.instance }} run unwatched since the sensor was restarted.",
		},
	})
}
