package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"golang.org/x/sync/errgroup"

	"github.com/sonde-ebpf/sonde/bench/agent"
	"github.com/sonde-ebpf/sonde/bench/compare"
	"github.com/sonde-ebpf/sonde/bench/load"
)

// build is a sensor that is measured: a command, none for a machine without one.
type build struct {
	name    string
	command []string
}

func parseBuild(text string) (build, error) {
	name, command, found := strings.Cut(text, "=")
	if name == "" || !found {
		return build{}, fmt.Errorf("build %q: want NAME=COMMAND", text)
	}
	return build{name, strings.Fields(command)}, nil
}

// plan is what to measure.
type plan struct {
	builds        []build
	workloads     []string // each a name, or several with + between: at once
	runs          int      // of each build under each load
	warmUp, while time.Duration
	revision      string
}

// addRun adds the verb that measures.
func addRun(app *kingpin.Application) (string, verb) {
	cmd := app.Command("run", "Run loads with each of the builds, interleaved, and write what that took as JSON.")
	builds := cmd.Flag("build", "NAME=COMMAND of a sensor; NAME= is a machine without one. The command may have arguments of its own.").Required().Strings()
	workloads := cmd.Flag("workload", "A load, as of the verb load; with + between, several at once, of which the first is timed.").Default("processes+endpoints-brief").Strings()
	runs := cmd.Flag("runs", "How often each build runs under each load.").Default("10").Int()
	warmUp := cmd.Flag("warm-up", "How long the load runs before it counts.").Default("2s").Duration()
	while := cmd.Flag("duration", "How long it counts.").Default("10s").Duration()
	revision := cmd.Flag("revision", "What the trend shows for these results.").String()
	output := cmd.Flag("output", "Where to write; - is standard output.").Short('o').Default("-").String()
	return cmd.FullCommand(), func(ctx context.Context, stdout, stderr io.Writer) error {
		p := plan{workloads: *workloads, runs: *runs, warmUp: *warmUp, while: *while, revision: *revision}
		for _, text := range *builds {
			b, err := parseBuild(text)
			if err != nil {
				return err
			}
			p.builds = append(p.builds, b)
		}
		results, err := p.measure(ctx, stderr)
		if err != nil {
			return err
		}
		return writeTo(*output, stdout, results.Write)
	}
}

// writeTo writes to a file, or to stdout where it is "-".
func writeTo(path string, stdout io.Writer, write func(io.Writer) error) error {
	if path == "-" {
		return write(stdout)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// measure makes all runs. Builds take turns, and the turn is reversed every round, so
// that a machine that slows down does so for all of them.
func (p *plan) measure(ctx context.Context, progress io.Writer) (*compare.Results, error) {
	machine, err := thisMachine()
	if err != nil {
		return nil, err
	}
	r := &compare.Results{Date: time.Now().UTC().Format(time.RFC3339), Revision: p.revision, Machine: machine}
	for round := range p.runs {
		for _, workload := range p.workloads {
			for i := range p.builds {
				b := p.builds[i]
				if round%2 == 1 {
					b = p.builds[len(p.builds)-1-i]
				}
				run, err := p.valid(ctx, b, workload, round, progress)
				if err != nil {
					return nil, fmt.Errorf("run %s under %s: %w", b.name, workload, err)
				}
				r.Runs = append(r.Runs, run)
			}
		}
	}
	return r, nil
}

// tries is how often a run is made again whose load fell behind.
const tries = 5

// valid makes one run, again where the machine did not keep up with the load.
func (p *plan) valid(ctx context.Context, b build, workload string, round int, progress io.Writer) (compare.Run, error) {
	for range tries {
		run, err := p.once(ctx, b, workload, uint64(round))
		if err != nil {
			return run, err
		}
		run.Round = round
		fmt.Fprintln(progress, line(run))
		if run.Held() {
			return run, nil
		}
	}
	return compare.Run{}, fmt.Errorf("%w: the load fell behind %d times", compare.ErrInput, tries)
}

func line(r compare.Run) string {
	text := fmt.Sprintf("round %d, %s, %s: %d of %d operations, median %.1f µs", r.Round, r.Workload, r.Build, r.Load.Done, r.Load.Due, 1e6*r.Load.Median)
	if r.Agent != nil {
		text += fmt.Sprintf("; %.1f %% of a core, %.1f MiB, %.0f events, %.0f lost", r.Agent.CPU, r.Agent.RSS/(1<<20), r.Agent.Events, r.Agent.Dropped)
	}
	if !r.Held() {
		text += "; invalid: the load fell behind"
	}
	return text
}

// once makes one run. The seed is the round's: all builds see the same load.
func (p *plan) once(ctx context.Context, b build, workload string, seed uint64) (run compare.Run, err error) {
	run = compare.Run{Build: b.name, Workload: workload}
	loads, err := prepare(workload, seed)
	if err != nil {
		return run, err
	}
	defer func() {
		for _, g := range loads {
			err = errors.Join(err, g.Close())
		}
	}()
	if len(b.command) == 0 {
		return run, p.under(ctx, loads, &run, nil)
	}
	a, err := agent.Start(ctx, b.command)
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, a.Stop()) }()
	return run, p.under(ctx, loads, &run, a)
}

// prepare prepares the loads that run at once.
func prepare(workload string, seed uint64) (loads []*load.Generator, err error) {
	for name := range strings.SplitSeq(workload, "+") {
		w, err := scale(name)
		if err != nil {
			return loads, err
		}
		w.Seed = seed
		g, err := load.New(w)
		if err != nil {
			return loads, err
		}
		loads = append(loads, g)
	}
	return loads, nil
}

// under warms up and measures. a may be nil.
func (p *plan) under(ctx context.Context, loads []*load.Generator, run *compare.Run, a *agent.Agent) error {
	if _, err := together(ctx, loads, p.warmUp); err != nil {
		return err
	}
	var before, after agent.Usage
	var err error
	if a != nil {
		if before, err = a.Usage(); err != nil {
			return err
		}
	}
	began := time.Now()
	results, err := together(ctx, loads, p.while)
	if err != nil {
		return err
	}
	run.Load, run.Beside = results[0], results[1:]
	if a == nil {
		return nil
	}
	if after, err = a.Usage(); err != nil {
		return err
	}
	run.Agent = cost(before, after, time.Since(began).Seconds())
	return nil
}

func together(ctx context.Context, loads []*load.Generator, d time.Duration) ([]load.Result, error) {
	results := make([]load.Result, len(loads))
	running, ctx := errgroup.WithContext(ctx)
	for i, g := range loads {
		running.Go(func() (err error) {
			results[i], err = g.Run(ctx, d)
			return err
		})
	}
	return results, running.Wait()
}

func cost(before, after agent.Usage, seconds float64) *compare.Cost {
	c := &compare.Cost{
		CPU: 100 * (after.CPU - before.CPU) / seconds, RSS: after.RSS, Peak: after.Peak,
		Allocated: (after.Allocated - before.Allocated) / seconds,
		Events:    after.Events - before.Events, Dropped: after.Dropped - before.Dropped,
		Delay: after.Delay(0.99, before), Programs: map[string]float64{},
	}
	for name, runs := range after.Runs {
		if n := runs - before.Runs[name]; n > 0 {
			c.Programs[name] = (after.RunTime[name] - before.RunTime[name]) / n
		}
	}
	return c
}
