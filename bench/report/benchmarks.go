// Package report writes down what was measured: tables in a page of Markdown, and plots
// beside it.
package report

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/perf/benchfmt"
	"golang.org/x/perf/benchmath"
)

// Benchmarks are values of Go benchmarks, one for each run: by name, then by unit.
type Benchmarks map[string]map[string][]float64

// ReadBenchmarks reads what go test prints. Lines that are no results are left out.
func ReadBenchmarks(r io.Reader, file string) (Benchmarks, error) {
	all := Benchmarks{}
	reader := benchfmt.NewReader(r, file)
	for reader.Scan() {
		result, ok := reader.Result().(*benchfmt.Result)
		if !ok {
			continue
		}
		full := result.Name.String()
		if _, parts := result.Name.Parts(); len(parts) > 0 {
			if last := string(parts[len(parts)-1]); last[0] == '-' { // GOMAXPROCS
				full = strings.TrimSuffix(full, last)
			}
		}
		name := strings.TrimPrefix(full, "Benchmark")
		if all[name] == nil {
			all[name] = map[string][]float64{}
		}
		for _, v := range result.Values {
			// The reader turns ns into seconds, and keeps what it was.
			unit, value := v.Unit, v.Value
			if v.OrigUnit != "" {
				unit, value = v.OrigUnit, v.OrigValue
			}
			all[name][unit] = append(all[name][unit], value)
		}
	}
	if err := reader.Err(); err != nil {
		return nil, fmt.Errorf("read benchmarks: %w", err)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("read benchmarks: %s has none", file)
	}
	return all, nil
}

// center is the median of the runs, 0 where there are none.
func (b Benchmarks) center(name, unit string) float64 {
	values := b[name][unit]
	if len(values) == 0 {
		return 0
	}
	t := benchmath.DefaultThresholds
	return benchmath.AssumeNothing.Summary(benchmath.NewSample(slices.Clone(values), &t), 0.95).Center
}

// below returns the names of sub-benchmarks, without what is above them, in order.
func (b Benchmarks) below(name string) (names []string) {
	for full := range b {
		if rest, ok := strings.CutPrefix(full, name+"/"); ok {
			names = append(names, rest)
		}
	}
	slices.Sort(names)
	return names
}
