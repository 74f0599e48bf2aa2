package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kingpin/v2"

	"github.com/sonde-ebpf/sonde/bench/report"
)

// addReport adds the verb that writes down what was measured.
func addReport(app *kingpin.Application) (string, verb) {
	cmd := app.Command("report", "Write what benchmarks and runs say into the measured part of a page, and plots beside it.")
	benchmarks := cmd.Arg("benchmarks", "What go test -bench printed.").Required().String()
	file := cmd.Arg("results", "What run wrote, of a build named head.").Required().String()
	page := cmd.Arg("page", "The page.").Required().String()
	return cmd.FullCommand(), func(context.Context, io.Writer, io.Writer) error {
		f, err := os.Open(*benchmarks)
		if err != nil {
			return fmt.Errorf("read benchmarks: %w", err)
		}
		defer f.Close()
		b, err := report.ReadBenchmarks(f, *benchmarks)
		if err != nil {
			return err
		}
		results, err := readResults(*file)
		if err != nil {
			return err
		}
		return report.Update(*page, b, results)
	}
}
