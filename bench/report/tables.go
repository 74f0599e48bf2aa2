package report

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// rungs are those of the ladder, in the order of the tables.
var rungs = []struct{ name, title string }{
	{"bare", "nothing"},
	{"empty", "empty programs"},
	{"probe", "its own probe"},
	{"all", "all probes"},
	{"hash", "hash keyed by thread id"},
	{"sensor", "the whole sensor"},
}

// operations writes what each rung adds to each operation.
func (b Benchmarks) operations(w *strings.Builder) {
	w.WriteString("\n### Operations\n\nTime of one operation, medians; what is added is relative to nothing, and to empty programs where there are any.\n\n")
	w.WriteString("| operation | watched by | ns | added ns | share | times empty |\n|---|---|---|---|---|---|\n")
	var names []string
	for _, full := range b.below("Ladder") {
		name, _, _ := strings.Cut(full, "/")
		names = append(names, name)
	}
	for _, name := range slices.Compact(names) {
		at := func(rung string) float64 { return b.center("Ladder/"+name+"/"+rung, "ns/op") }
		bare, empty := at("bare"), at("empty")
		for _, r := range rungs {
			ns := at(r.name)
			if ns == 0 {
				continue
			}
			fmt.Fprintf(w, "| %s | %s | %.0f |", name, r.title, ns)
			switch added := ns - bare; {
			case r.name == "bare":
				w.WriteString(" | | |\n")
			case empty > bare:
				fmt.Fprintf(w, " %.0f | %.1f %% | %.2f |\n", added, 100*added/bare, added/(empty-bare))
			default:
				fmt.Fprintf(w, " %.0f | %.1f %% | |\n", added, 100*added/bare)
			}
		}
	}
}

// implementations are what serves scrapes, in the order of table and plot.
var implementations = []struct{ name, title string }{
	{"sonde", "Sonde"},
	{"client_golang", "client_golang"},
	{"victoria", "VictoriaMetrics/metrics"},
}

// sizes returns the numbers that name the sub-benchmarks of one, ascending.
func (b Benchmarks) sizes(of string) (sizes []int) {
	for _, name := range b.below(of) {
		if n, err := strconv.Atoi(name); err == nil {
			sizes = append(sizes, n)
		}
	}
	slices.Sort(sizes)
	return sizes
}

func (b Benchmarks) scrape(size int, implementation, unit string) float64 {
	return b.center(fmt.Sprintf("ScrapeSize/%d", size), implementation+"-"+unit)
}

// scrapes writes what a scrape of counters as text takes, by their number.
func (b Benchmarks) scrapes(w *strings.Builder) {
	w.WriteString("\n### Scrapes\n\nOne scrape of counters as text, medians.\n\n| series |")
	for _, impl := range implementations {
		fmt.Fprintf(w, " %s | allocations |", impl.title)
	}
	w.WriteString("\n|---|" + strings.Repeat("---|---|", len(implementations)) + "\n")
	for _, n := range b.sizes("ScrapeSize") {
		fmt.Fprintf(w, "| %d |", n)
		for _, impl := range implementations {
			fmt.Fprintf(w, " %.2f ms | %.0f |", b.scrape(n, impl.name, "ms"), b.scrape(n, impl.name, "allocs"))
		}
		w.WriteString("\n")
	}
}

// growth writes what grows with the node: answers, the heap, and the counters of CPUs.
func (b Benchmarks) growth(w *strings.Builder) {
	w.WriteString("\n### Growth\n\nOne answer of `/state/network/connection?normalize=false` with all connections, medians.\n\n")
	w.WriteString("| connections | time | answer | allocations |\n|---|---|---|---|\n")
	for _, n := range b.sizes("State") {
		name := fmt.Sprintf("State/%d", n)
		fmt.Fprintf(w, "| %d | %.1f ms | %.2f MiB | %.0f |\n", n, b.center(name, "ns/op")/1e6, b.center(name, "MiB"), b.center(name, "allocs/op"))
	}
	w.WriteString("\nWhat one more of each takes of the heap; the kernel's maps are there from the start.\n\n| one more | bytes |\n|---|---|\n")
	for _, name := range b.below("Memory") {
		fmt.Fprintf(w, "| %s | %.0f |\n", name, b.center("Memory/"+name, "heap-bytes"))
	}
	w.WriteString("\nThe counters of as many CPUs, all histograms in use, and adding them up at a scrape.\n\n| CPUs | counters | added up in |\n|---|---|---|\n")
	for _, n := range b.sizes("CPUs") {
		name := fmt.Sprintf("CPUs/%d", n)
		fmt.Fprintf(w, "| %d | %.1f MiB | %.2f ms |\n", n, b.center(name, "MiB"), b.center(name, "ns/op")/1e6)
	}
}
