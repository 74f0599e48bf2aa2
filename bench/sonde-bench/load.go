package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"

	"github.com/alecthomas/kingpin/v2"

	"github.com/sonde-ebpf/sonde/bench/compare"
	"github.com/sonde-ebpf/sonde/bench/load"
)

// scale returns the load of a name.
func scale(name string) (load.Workload, error) {
	scales := load.Scales(runtime.NumCPU())
	w, ok := scales[name]
	if !ok {
		return w, fmt.Errorf("no load %q; there are: %v", name, slices.Sorted(maps.Keys(scales)))
	}
	return w, nil
}

// addLoad adds the verb that makes a load and says whether it kept up.
func addLoad(app *kingpin.Application) (string, verb) {
	cmd := app.Command("load", "Make a load for a while, or until a signal, and print what was done.")
	name := cmd.Arg("name", "The load.").Required().Enum(slices.Sorted(maps.Keys(load.Scales(1)))...)
	rate := cmd.Flag("rate", "Operations a second, instead of the load's own.").Float64()
	hold := cmd.Flag("hold", "Connections to keep open, instead of the load's own.").Int()
	seed := cmd.Flag("seed", "Decides when each operation comes, and what it is.").Default("1").Uint64()
	duration := cmd.Flag("duration", "How long.").Default("1m").Duration()
	return cmd.FullCommand(), func(ctx context.Context, stdout, _ io.Writer) error {
		w, err := scale(*name)
		if err != nil {
			return err
		}
		w.Seed = *seed
		if *rate > 0 {
			w.Rate = *rate
		}
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
