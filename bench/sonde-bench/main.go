// Sonde-bench makes load, measures what a sensor costs under it, and compares builds.
//
// Exit codes: 0 all is well, 1 it did not work, 2 usage, 3 a regression, 4 the input
// is empty or invalid, or a load fell behind.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kingpin/v2"

	"github.com/sonde-ebpf/sonde/bench/compare"
)

// The exit codes.
const (
	exitOK = iota
	exitFailed
	exitUsage
	exitRegression
	exitInput
)

var errRegression = errors.New("regression")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// verb is what a command does once the command line is parsed.
type verb func(ctx context.Context, stdout, stderr io.Writer) error

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	app := kingpin.New("sonde-bench", "Make load, measure what a sensor costs under it, and compare builds.")
	app.UsageWriter(stdout).ErrorWriter(stderr)
	helped := false
	app.Terminate(func(int) { // Parse goes on after it has shown the help, and finds a verb missing
		helped = true
		app.UsageWriter(io.Discard)
	})
	verbs := map[string]verb{}
	for _, add := range []func(*kingpin.Application) (string, verb){addLoad, addRun, addCompare, addTrend, addReport, addBurden, addFleet} {
		name, v := add(app)
		verbs[name] = v
	}
	if len(args) == 0 {
		app.UsageWriter(stderr).Usage(nil)
		return exitUsage
	}
	chosen, err := app.Parse(args)
	switch {
	case helped:
		return exitOK
	case err != nil:
		fmt.Fprintln(stderr, "sonde-bench:", err)
		return exitUsage
	}
	err = verbs[chosen](ctx, stdout, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "sonde-bench:", err)
	}
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errRegression):
		return exitRegression
	case errors.Is(err, compare.ErrInput):
		return exitInput
	}
	return exitFailed
}
