package compare

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Kept is how many results of the main branch are kept for the trend.
const Kept = 10

// ReadTrend reads results of earlier times, oldest first. Nothing at all is no trend
// and no error: so it is before the first time.
func ReadTrend(r io.Reader) (trend []*Results, err error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read trend: %w", err)
	}
	if len(strings.TrimSpace(string(data))) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(data, &trend); err != nil {
		return nil, fmt.Errorf("read trend: %w: %w", ErrInput, err)
	}
	return trend, nil
}

// Extend adds results to a trend and drops the oldest beyond Kept.
func Extend(trend []*Results, r *Results) []*Results {
	trend = append(slices.Clone(trend), r)
	return trend[max(0, len(trend)-Kept):]
}

// WriteTrend writes a trend as ReadTrend reads it.
func WriteTrend(w io.Writer, trend []*Results) error {
	return json.NewEncoder(w).Encode(trend)
}

// writeTrend shows medians of earlier times on the same kind of machine: others say
// nothing about this one.
func writeTrend(b *strings.Builder, r *Results, trend []*Results) {
	trend = slices.DeleteFunc(slices.Clone(trend), func(t *Results) bool { return t.Machine.Processor != r.Machine.Processor })
	fmt.Fprintf(b, "\n<details><summary>The last %d times on main, on such a machine</summary>\n\n", len(trend))
	heads := []string{"load", "resource"}
	for _, t := range trend {
		heads = append(heads, fmt.Sprintf("%.10s %.7s", t.Date, t.Revision))
	}
	table(b, heads, func(add func(...string)) {
		for _, workload := range r.Workloads() {
			for _, resource := range Resources {
				cells := []string{workload, resource.Name}
				for _, t := range trend {
					cells = append(cells, t.center(workload, resource))
				}
				add(cells...)
			}
		}
	})
	b.WriteString("\n</details>\n")
}

// center is the median over the runs of Head.
func (r *Results) center(workload string, resource Resource) string {
	values := r.values(Head, workload, resource.of)
	if len(values) == 0 {
		return ""
	}
	return resource.format(median(values) * resource.Scale)
}
