package load

import "maps"

// Scales are loads by name, for a machine with so many cores. They are as large as those
// that Collector is measured with, which berserker makes, so that results compare.
func Scales(cores int) map[string]Workload {
	n := float64(cores)
	scales := map[string]Workload{
		"idle":      {Kind: "idle"},
		"processes": {Kind: "processes", Rate: 200 * n},
		"endpoints": {Kind: "endpoints", Rate: 0.1 * n, Ports: 8000, Exponent: 1.4},
		"syscalls":  {Kind: "syscalls", Rate: 50_000 * n},
		// Two connections come from each address.
		"connections": {Kind: "connections", Rate: 10, Hold: 4000, Addresses: 2000},
		"churn":       {Kind: "connections", Rate: 500 * n, Addresses: 2000},
		"opens":       {Kind: "opens", Rate: 200},

		"processes-large": {Kind: "processes", Rate: 1000},
		"endpoints-large": {Kind: "endpoints", Rate: 0.9, Workers: 9, Ports: 2000, Exponent: 1.4},
	}
	// In a comparison of a few seconds the others would hardly come.
	brief := maps.Clone(scales)["endpoints"]
	brief.Rate, brief.Ports = 10*n, 100
	scales["endpoints-brief"] = brief
	return scales
}
