package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kingpin/v2"
)

// cli is the command line: verbs, their flags, and what was chosen.
type cli struct {
	app   *kingpin.Application
	ended bool // help was asked for and shown

	run, check *settings
	checkJSON  bool
	asks       map[string]func(context.Context, io.Writer) error // the verbs but run and check, most of which ask a running sensor
}

func newCLI(stdout io.Writer) *cli {
	c := &cli{
		app:  kingpin.New("sonde", "An eBPF sensor that counts and times what the kernel of this node does."),
		asks: map[string]func(context.Context, io.Writer) error{},
	}
	c.app.UsageWriter(stdout).ErrorWriter(io.Discard)
	c.app.HelpFlag.Short('h')
	c.app.Terminate(func(int) {
		// Parse goes on after help was shown; nothing it finds then matters.
		c.ended = true
		c.app.UsageWriter(io.Discard)
	})

	runVerb := c.app.Command("run", "Attach to the kernel and serve metrics until SIGTERM or SIGINT; the configuration file is read again when it changes, and at SIGHUP.")
	c.run = newSettings(runVerb)
	checkVerb := c.app.Command("check", "Tell whether this machine can run the sensor, without attaching anything.")
	c.check = newSettings(checkVerb)
	checkVerb.Flag("json", "Print JSON.").BoolVar(&c.checkJSON)
	c.addVersion()
	c.addStatus()
	c.addStatistics()
	c.addActors()
	c.addContainers()
	c.addLogLevel()
	c.addProfile()
	c.addEvents()
	c.addTrace()
	c.addBundle()
	c.addCleanup()
	return c
}

// ask adds a verb that asks a running sensor.
func (c *cli) ask(verb *kingpin.CmdClause, do func(context.Context, *asking) error) {
	q := newAsking(verb)
	c.asks[verb.FullCommand()] = func(ctx context.Context, stdout io.Writer) error {
		q.stdout = stdout
		return do(ctx, q)
	}
}

// run is the program: it returns the code to exit with. Results go to stdout,
// everything else to stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := newCLI(stdout)
	if len(args) == 0 {
		c.app.UsageWriter(stderr)
		c.app.Usage(nil)
		return int(exitUsage)
	}
	verb, err := c.app.Parse(args)
	switch {
	case c.ended:
		return int(exitOK)
	case err != nil:
		return report(stderr, usageError(err))
	}
	if ask, ok := c.asks[verb]; ok {
		return report(stderr, ask(ctx, stdout))
	}
	if verb == "check" {
		return report(stderr, runCheck(ctx, c.check, stdout, c.checkJSON))
	}
	return runAgent(ctx, c.run, stderr)
}

// usageError adds what to do about a command line that cannot be understood.
func usageError(err error) error {
	text := strings.ReplaceAll(err.Error(), "unknown long flag", "unknown flag")
	return &exitError{code: exitUsage, err: fmt.Errorf("%s", text), hint: "`sonde help` lists verbs, `sonde help run` the flags of one"}
}
