// Package exporter is the public HTTP side: /metrics, /healthz, /readyz and a
// landing page. It runs collectors under supervision, merges what they return and
// encodes it; it knows no particular metric, collector or probe.
//
// A collector that fails, panics, overruns its deadline or returns a malformed
// family costs what it would have shown and nothing else: the others are served,
// and sonde_collector_success says who failed.
package exporter
