package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	api "github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/protobuf/encoding/protojson"
)

// following is the verb events: what it asks for, and how it shows it.
type following struct {
	query url.Values
	most  int
	shown int
}

func (c *cli) addEvents() {
	f := &following{query: url.Values{}}
	verb := c.app.Command("events", "Show events as they happen, until it is interrupted: one line each, or as JSON lines of Tetragon's form.")
	for _, p := range []struct{ name, help string }{
		{"point", "Only that point, such as process/exec; `sonde trace metadata` lists them. Repeatable."},
		{"pid", "Only that process. Repeatable."},
		{"tree", "Only the process with that pid, and what it has started. Repeatable."},
		{"uid", "Only processes with that real user id. Repeatable."},
		{"comm", "Only threads of that name. Repeatable."},
		{"binary", "Only processes whose executable has a path that begins so. Repeatable."},
		{"path", "Only events about files whose path begins so. Repeatable."},
		{"rule", "Only events that fit that detection rule; * for any. Repeatable."},
	} {
		verb.Flag(p.name, p.help).SetValue(repeated{f.query, p.name, ","})
	}
	verb.Flag("argument", "Only executions with that argument, whole. Repeatable.").SetValue(repeated{f.query, "argument", ""})
	verb.Flag("container", "Only that container: its id, the first twelve characters of it, or host.").SetValue(parameter{f.query, "container"})
	verb.Flag("count", "End after so many events; 0 goes on.").Default("0").IntVar(&f.most)
	c.ask(verb, f.run)
}

// repeated is a flag that may be given several times, and is handed on to the sensor:
// with a separator between its values or, where that is empty and a value may have
// anything in it, as often as it was given.
type repeated struct {
	query           url.Values
	name, separator string
}

// Set implements kingpin.Value.
func (r repeated) Set(text string) error {
	if before := r.query.Get(r.name); before != "" && r.separator != "" {
		r.query.Set(r.name, before+r.separator+text)
	} else {
		r.query.Add(r.name, text)
	}
	return nil
}

// String implements kingpin.Value.
func (r repeated) String() string { return "" }

// IsCumulative makes kingpin take the flag more than once.
func (r repeated) IsCumulative() bool { return true }

// errEnough ends a stream of which enough was shown.
var errEnough = errors.New("enough events")

func (f *following) run(ctx context.Context, q *asking) error {
	if err := q.connect(ctx); err != nil {
		return err
	}
	interrupted, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	show := newEventLines(q.stdout)
	err := q.Follow(interrupted, "/trace/events?"+f.query.Encode(), func(line []byte) error {
		if err := f.show(q, show, line); err != nil {
			return err
		}
		if f.shown++; f.shown == f.most {
			return errEnough
		}
		return nil
	})
	switch {
	case errors.Is(err, errEnough), interrupted.Err() != nil:
		return nil
	case err == nil:
		return failf(exitNoAnswer, "the sensor has ended the stream")
	}
	return answered(err)
}

func (f *following) show(q *asking, lines *eventLines, line []byte) error {
	if q.json {
		_, err := fmt.Fprintf(q.stdout, "%s\n", line)
		return err
	}
	ev := &api.GetEventsResponse{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(line, ev); err != nil {
		return fmt.Errorf("decode event: %w", err)
	}
	return lines.write(ev)
}
