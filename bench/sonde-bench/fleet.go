package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/alecthomas/kingpin/v2"

	"github.com/sonde-ebpf/sonde/bench/fleet"
)

// addFleet adds the verb that measures what many nodes take of a Prometheus.
func addFleet(app *kingpin.Application) (string, verb) {
	cmd := app.Command("fleet", "Measure what a Prometheus takes for many nodes, pretended from what one sensor says.")
	url := cmd.Flag("url", "/metrics of a sensor that runs under a load like yours.").Default("http://localhost:9743/metrics").String()
	nodes := cmd.Flag("nodes", "Number of nodes; repeatable.").Default("100", "200", "400").Ints()
	o := fleet.Options{}
	cmd.Flag("prometheus", "The Prometheus to run.").Required().ExistingFileVar(&o.Prometheus)
	cmd.Flag("rules", "File of rules that it evaluates, absolute.").ExistingFileVar(&o.Rules)
	cmd.Flag("interval", "Time between two scrapes of a node.").Default("15s").DurationVar(&o.Interval)
	cmd.Flag("for", "Time to measure, after every node has been seen.").Default("2m").DurationVar(&o.For)
	return cmd.FullCommand(), func(ctx context.Context, stdout, stderr io.Writer) error {
		fmt.Fprintf(stderr, "recording %s for %v\n", *url, o.Interval)
		r, err := fleet.Record(ctx, *url, o.Interval)
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "one scrape: %d series, %d of them native histograms; %d bytes, %d with gzip\n\n", r.Series, r.Histograms, r.Bytes, r.Packed)
		table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(table, "nodes\tseries\tsamples/s\tmemory MiB\tcores\trules s\tWAL KiB/s\tdown\t")
		for _, o.Nodes = range *nodes {
			fmt.Fprintf(stderr, "%d nodes\n", o.Nodes)
			m, err := fleet.Measure(ctx, r, o)
			if err != nil {
				return err
			}
			fmt.Fprintf(table, "%d\t%.0f\t%.0f\t%.0f\t%.2f\t%.3f\t%.0f\t%.0f\t\n",
				m.Nodes, m.Series, m.SamplesPerSecond, m.MemoryBytes/(1<<20), m.CPU, m.RulesSeconds, m.WALBytes/(1<<10), m.Down)
		}
		return table.Flush()
	}
}
