package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kingpin/v2"

	"github.com/sonde-ebpf/sonde/bench/compare"
	"github.com/sonde-ebpf/sonde/bench/load"
)

// scale returns the load of a name, or of a name, @, and a rate instead of its own.
func scale(text string) (load.Workload, error) {
	scales := load.Scales(runtime.NumCPU())
	name, rate, own := strings.Cut(text, "@")
	w, ok := scales[name]
	if !ok {
		return w, fmt.Errorf("no load %q; there are: %v", name, slices.Sorted(maps.Keys(scales)))
	}
	if own {
		var err error
		if w.Rate, err = strconv.ParseFloat(rate, 64); err != nil {
			return w, fmt.Errorf("rate of load %q: %w", text, err)
		}
	}
	return w, nil
}

// addLoad adds the verb that makes a load and says whether it kept up.
func addLoad(app *kingpin.Application) (string, verb) {
	cmd := app.Command("load", "Make a load for a while, or until a signal, and print what was done.")
	name := cmd.Arg("name", fmt.Sprintf("The load, one of %v; with @ and a number, at that rate.", slices.Sorted(maps.Keys(load.Scales(1))))).Required().String()
	hold := cmd.Flag("hold", "Connections to keep open, instead of the load's own.").Int()
	seed := cmd.Flag("seed", "Decides when each operation comes, and what it is.").Default("1").Uint64()
	duration := cmd.Flag("duration", "How long.").Default("1m").Duration()
	return cmd.FullCommand(), func(ctx context.Context, stdout, _ io.Writer) error {
		w, err := scale(*name)
		if err != nil {
			return err
		}
		w.Seed = *seed
		if *hold > 0 {
			w.Hold = *hold
		}
		g, err := load.New(w)
		if err != nil {
			return err
		}
		defer g.Close()
		r, err := g.Run(ctx, *duration)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err := json.NewEncoder(stdout).Encode(r); err != nil {
			return err
		}
		if !r.Held() && ctx.Err() == nil {
			return fmt.Errorf("make load: %w: %d of %d operations in time", compare.ErrInput, r.Done, r.Due)
		}
		return nil
	}
}
