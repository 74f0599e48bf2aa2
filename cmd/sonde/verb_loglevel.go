package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/sonde-ebpf/sonde/internal/logging"
	"github.com/sonde-ebpf/sonde/introspect"
)

func (c *cli) addLogLevel() {
	verb := c.app.Command("log-level", "Show or set the log levels of the sensor that runs: `log-level`, `log-level debug`, `log-level bpf debug`. "+
		"What is set lasts until the sensor or its configuration changes.")
	var target, level string
	verb.Arg("target", "Part of the sensor, such as bpf; without it, every part that has no level of its own.").StringVar(&target)
	verb.Arg("level", "trace, debug, info, warn, error or off.").StringVar(&level)
	c.ask(verb, func(ctx context.Context, q *asking) error { return runLogLevel(ctx, q, target, level) })
}

// runLogLevel shows the levels, after it has set one if it is to.
func runLogLevel(ctx context.Context, q *asking, target, level string) error {
	if err := q.connect(ctx); err != nil {
		return err
	}
	var now introspect.LevelsAnswer
	if err := q.get(ctx, "/loglevel", &now); err != nil {
		return err
	}
	if level == "" && isLevel(target) {
		target, level = "", target
	}
	if target != "" && !slices.ContainsFunc(slices.Collect(maps.Keys(now.Targets)), func(t string) bool { return t == target || strings.HasPrefix(t, target+".") }) {
		return failf(exitUsage, "%q is neither a level nor a part of the sensor that logs; its parts: %s", target, strings.Join(slices.Sorted(maps.Keys(now.Targets)), ", "))
	}
	if level != "" {
		spec, err := changed(now.Spec, target, level)
		if err != nil {
			return &exitError{code: exitUsage, err: err}
		}
		var done struct{ Status string }
		if err := answered(q.Ask(ctx, http.MethodPost, "/loglevel", spec, &done)); err != nil {
			return err
		}
		if err := q.get(ctx, "/loglevel", &now); err != nil {
			return err
		}
	}
	return q.show(now, func(p *page) {
		p.row("TARGET", "LEVEL")
		if target == "" {
			p.row("(all others)", strings.ToLower(now.Level))
		}
		for _, t := range slices.Sorted(maps.Keys(now.Targets)) {
			if target == "" || t == target || strings.HasPrefix(t, target+".") {
				p.row(t, now.Targets[t])
			}
		}
	})
}

func isLevel(text string) bool {
	_, err := logging.ParseSpec(text)
	return err == nil && !strings.ContainsAny(text, ",=")
}

// changed returns a specification with another level for a target, or for all that
// have none of their own.
func changed(spec, target, level string) (string, error) {
	if !isLevel(level) {
		return "", fmt.Errorf("%q is not a level; use trace, debug, info, warn, error or off", level)
	}
	rest := ""
	if _, exceptions, has := strings.Cut(spec, ","); has {
		rest = "," + exceptions
	}
	if target != "" {
		level = spec + "," + target + "=" + level // of two for one target the later one counts
		rest = ""
	}
	parsed, err := logging.ParseSpec(level + rest)
	return parsed.String(), err
}
