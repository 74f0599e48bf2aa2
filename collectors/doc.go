// Package collectors turns what the probes and the machine's own files say into
// metrics: names, help, labels and the arithmetic to base units. It knows nothing
// of how a probe was loaded, of HTTP, or of its neighbours; each collector names
// the one thing it needs as an interface of its own.
//
// To find the code behind a metric, take the beginning of its name:
// sonde_tcp_rtt_seconds is in tcp.go, sonde_sensor_memory_bytes in sensor_memory.go.
//
// A collector is never asked to collect twice at the same time, so it holds no
// lock. What it returns together with an error is worth showing. A number that is
// not known is left out: it is not 0.
package collectors

import "github.com/sonde-ebpf/sonde/internal/metric"

//go:generate go test -count=1 -run TestDocs . -update

// declared is the catalogue of this package.
var declared = metric.NewSet()

// Declared returns every family that the collectors can show, sorted by name.
func Declared() []metric.Family { return declared.Families() }
