package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/sonde-ebpf/sonde/internal/gvisor"
	"github.com/sonde-ebpf/sonde/internal/stream"
	"github.com/sonde-ebpf/sonde/introspect"
)

// addTrace adds the verbs about sessions.
func (c *cli) addTrace() {
	trace := c.app.Command("trace", "Sessions: which events go where.")

	create := trace.Command("create", "Begin a session in the sensor that runs. It is not kept over a restart; sessions of the configuration file are.")
	file := create.Flag("config", "The session as JSON, as gVisor's runtime monitoring has it, wrapped in trace_session or not; - reads standard input.").Required().String()
	force := create.Flag("force", "Delete a session of that name before.").Bool()
	c.ask(create, func(ctx context.Context, q *asking) error { return runTraceCreate(ctx, q, *file, *force) })

	c.ask(trace.Command("list", "List the sessions, and what became of their events."), runTraceList)

	remove := trace.Command("delete", "End a session of the sensor that runs, when its sinks have taken what waits for them.")
	name := remove.Flag("name", "Name of the session.").Required().String()
	c.ask(remove, func(ctx context.Context, q *asking) error { return runTraceDelete(ctx, q, *name) })

	metadata := trace.Command("metadata", "List the points, fields and sinks that a session may name.")
	forGVisor := metadata.Flag("gvisor", "Print a session file that makes gVisor's sandboxes report to the sensor, for `runsc --pod-init-config`.").Bool()
	endpoint := metadata.Flag("gvisor.endpoint", "The socket on which the sensor receives sandboxes.").
		Default(gvisor.DefaultEndpoint).Envar("SONDE_GVISOR_ENDPOINT").String()
	c.ask(metadata, func(ctx context.Context, q *asking) error {
		if *forGVisor {
			return printGVisorSession(q.stdout, *endpoint)
		}
		return runTraceMetadata(ctx, q)
	})
}

func printGVisorSession(stdout io.Writer, endpoint string) error {
	if err := checkEndpoint(endpoint); err != nil {
		return failf(exitConfig, "--gvisor.endpoint: %w", err)
	}
	text, err := gvisor.SessionFile(endpoint)
	if err != nil {
		return err
	}
	_, err = stdout.Write(text)
	return err
}

func runTraceCreate(ctx context.Context, q *asking, file string, force bool) error {
	text, err := readSession(file)
	if err != nil {
		return failf(exitConfig, "read session: %w", err)
	}
	if err := q.connect(ctx); err != nil {
		return err
	}
	if force {
		session, _, err := stream.ParseSession(text)
		if err != nil {
			return &exitError{code: exitConfig, err: err}
		}
		var gone introspect.SessionAnswer // nothing, where there is no such session
		if err := answered(q.Ask(ctx, http.MethodDelete, sessionPath(session.Name), "", &gone, http.StatusNotFound)); err != nil {
			return err
		}
	}
	var made introspect.CreatedAnswer
	if err := answered(q.Ask(ctx, http.MethodPost, "/trace/sessions", string(text), &made)); err != nil {
		return err
	}
	return q.show(made, func(p *page) {
		p.row(fmt.Sprintf("Session %q created.", made.Name))
		for _, m := range made.Missing {
			p.row("passed over: " + m)
		}
	})
}

func readSession(file string) ([]byte, error) {
	in := os.Stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, stream.MaxSessionBytes+1))
	if err == nil && len(text) > stream.MaxSessionBytes {
		err = errors.New("it is too long")
	}
	return text, err
}

func sessionPath(name string) string { return "/trace/sessions/" + url.PathEscape(name) }

func runTraceList(ctx context.Context, q *asking) error {
	if err := q.connect(ctx); err != nil {
		return err
	}
	all := []introspect.SessionAnswer{}
	if err := q.get(ctx, "/trace/sessions", &all); err != nil {
		return err
	}
	return q.show(all, func(p *page) {
		p.row("SESSION", "POINTS", "SINK", "DELIVERED", "FILTERED", "DROPPED", "QUEUED", "WHY DROPPED")
		for _, s := range all {
			for _, k := range s.Sinks {
				p.row(s.Name, fmt.Sprint(len(s.Points)), k.Sink, fmt.Sprint(k.Delivered), fmt.Sprint(k.Filtered), fmt.Sprint(k.Dropped), fmt.Sprint(k.Queued), reasons(k.Reasons))
			}
		}
		for _, s := range all {
			for _, k := range s.Sinks {
				if k.Trouble != "" {
					p.row(fmt.Sprintf("%s/%s: %s", s.Name, k.Sink, k.Trouble))
				}
			}
		}
	})
}

func reasons(by map[string]uint64) string {
	var all []string
	for _, reason := range slices.Sorted(maps.Keys(by)) {
		all = append(all, fmt.Sprintf("%s %d", reason, by[reason]))
	}
	return strings.Join(all, ", ")
}

func runTraceDelete(ctx context.Context, q *asking, name string) error {
	if err := q.connect(ctx); err != nil {
		return err
	}
	var gone introspect.SessionAnswer
	if err := answered(q.Ask(ctx, http.MethodDelete, sessionPath(name), "", &gone)); err != nil {
		return err
	}
	return q.show(gone, func(p *page) {
		p.row(fmt.Sprintf("Session %q deleted.", gone.Name))
		for _, k := range gone.Sinks {
			p.row(fmt.Sprintf("%s: %d delivered, %d dropped", k.Sink, k.Delivered, k.Dropped))
		}
	})
}

func runTraceMetadata(ctx context.Context, q *asking) error {
	if err := q.connect(ctx); err != nil {
		return err
	}
	var known introspect.TraceMetadataAnswer
	if err := q.get(ctx, "/trace/metadata", &known); err != nil {
		return err
	}
	return q.show(known, func(p *page) {
		p.row(fmt.Sprintf("POINTS (%d)", len(known.Points)))
		for _, m := range known.Points {
			p.row(fmt.Sprintf("Name: %s, optional fields: [%s], context fields: [%s]",
				m.Name, strings.Join(m.OptionalFields, "|"), strings.Join(m.ContextFields, "|")))
		}
		p.gap()
		p.row(fmt.Sprintf("SINKS (%d)", len(known.Sinks)))
		for _, name := range known.Sinks {
			p.row("Name: " + name)
		}
	})
}
