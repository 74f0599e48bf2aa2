package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/alecthomas/kingpin/v2"

	"github.com/sonde-ebpf/sonde/bench/compare"
)

// addCompare adds the verb that gives the verdict.
func addCompare(app *kingpin.Application) (string, verb) {
	cmd := app.Command("compare", "Compare two builds of one file of results. Exits with 3 on a regression, 4 on results that cannot be compared.")
	file := cmd.Arg("results", "What run wrote.").Required().String()
	base := cmd.Flag("base", "Build to compare with.").Default(compare.Base).String()
	head := cmd.Flag("head", "Build to judge.").Default(compare.Head).String()
	markdown := cmd.Flag("markdown", "Also write the verdict there, as a comment for a change.").String()
	trendFile := cmd.Flag("trend", "Earlier results to show in the comment; the file may be absent.").String()
	return cmd.FullCommand(), func(_ context.Context, stdout, _ io.Writer) error {
		results, err := readResults(*file)
		if err != nil {
			return err
		}
		differences, err := compare.Compare(results, *base, *head)
		if err != nil {
			return err
		}
		if err := compare.Text(stdout, differences); err != nil {
			return err
		}
		if *markdown != "" {
			trend, err := readTrend(*trendFile)
			if err != nil {
				return err
			}
			if err := writeTo(*markdown, stdout, func(w io.Writer) error { return compare.Markdown(w, results, differences, trend) }); err != nil {
				return err
			}
		}
		if n := len(compare.Regressions(differences)); n > 0 {
			return fmt.Errorf("%w: %d", errRegression, n)
		}
		return nil
	}
}

// addTrend adds the verb that keeps the latest results.
func addTrend(app *kingpin.Application) (string, verb) {
	cmd := app.Command("trend", fmt.Sprintf("Add results to the %d latest that a file keeps.", compare.Kept))
	file := cmd.Arg("results", "What run wrote.").Required().String()
	kept := cmd.Arg("trend", "The file to add to; it may be absent.").Required().String()
	return cmd.FullCommand(), func(_ context.Context, stdout, _ io.Writer) error {
		results, err := readResults(*file)
		if err != nil {
			return err
		}
		trend, err := readTrend(*kept)
		if err != nil {
			return err
		}
		return writeTo(*kept, stdout, func(w io.Writer) error { return compare.WriteTrend(w, compare.Extend(trend, results)) })
	}
}

func readResults(path string) (*compare.Results, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read results: %w: %w", compare.ErrInput, err)
	}
	defer f.Close()
	return compare.Read(f)
}

// readTrend reads a file that may be absent, or not named.
func readTrend(path string) ([]*compare.Results, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read trend: %w", err)
	}
	defer f.Close()
	return compare.ReadTrend(f)
}
