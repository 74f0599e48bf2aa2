package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"github.com/sonde-ebpf/sonde/introspect"
)

// profileMode lets nobody but its owner read a profile: it tells what runs here.
const profileMode = 0o600

// profiling is one of the verbs that get a profile.
type profiling struct {
	kind    string
	word    string // on, off, empty; "" gets the profile
	seconds int
	output  string
	named   bool       // output was given
	query   url.Values // what else the route is asked
}

// recordWords switch a record of the sensor's own.
var recordWords = []string{"on", "off", "empty"}

func (c *cli) addProfile() {
	parent := c.app.Command("profile", "Write a profile of the sensor or of its node to a file, for `go tool pprof`.")
	own := func(kind, help string) {
		p := &profiling{kind: kind}
		verb := parent.Command(kind, help)
		verb.Arg("word", "on, off or empty: begins, ends or forgets a record, and writes nothing. Without it the record is written.").EnumVar(&p.word, recordWords...)
		verb.Flag("seconds", "Record that long and write what came of it; 0 writes what `on` and `off` have recorded.").Default("0").IntVar(&p.seconds)
		c.addProfileVerb(verb, p)
	}
	own("heap", "The sensor's memory: what was allocated and not freed between `on` and `off`; without a record, all of it.")
	own("cpu", "The sensor's processor time between `on` and `off`.")

	node := &profiling{kind: "node", query: url.Values{}}
	verb := parent.Command("node", "What runs on all processors of the node, by stack.")
	verb.Flag("seconds", "How long to look.").Default("10").IntVar(&node.seconds)
	verb.Flag("hz", "How often to look at each processor per second.").SetValue(parameter{node.query, "hz"})
	verb.Flag("container", "Only that container: its id, the first twelve characters of it, or host.").SetValue(parameter{node.query, "container"})
	verb.Flag("pid", "Only that process, by the machine's number.").SetValue(parameter{node.query, "pid"})
	c.addProfileVerb(verb, node)
}

func (c *cli) addProfileVerb(verb *kingpin.CmdClause, p *profiling) {
	verb.Flag("output", "File to write, - for standard output. Empty: a new one here, named after the time.").Short('o').IsSetByUser(&p.named).StringVar(&p.output)
	c.ask(verb, p.run)
}

// parameter is a flag that is handed on to the sensor, which checks it.
type parameter struct {
	query url.Values
	name  string
}

func (p parameter) String() string { return p.query.Get(p.name) }

// Set implements kingpin.Value.
func (p parameter) Set(text string) error {
	p.query.Set(p.name, text)
	return nil
}

func (p *profiling) run(ctx context.Context, q *asking) error {
	q.extra = time.Duration(p.seconds) * time.Second
	if err := q.connect(ctx); err != nil {
		return err
	}
	if p.word != "" {
		return p.switchRecord(ctx, q, p.word)
	}
	raw, err := p.get(ctx, q)
	if err != nil {
		return answered(err)
	}
	return p.write(q, raw)
}

// switchRecord sends a word and shows the states after it.
func (p *profiling) switchRecord(ctx context.Context, q *asking, word string) error {
	var states introspect.ProfilesAnswer
	if err := answered(q.Ask(ctx, http.MethodPost, "/profile/"+p.kind, word, &states)); err != nil {
		return err
	}
	return q.show(states, func(page *page) {
		page.row("heap", states.Heap)
		page.row("cpu", states.CPU)
	})
}

// get asks for the profile.
func (p *profiling) get(ctx context.Context, q *asking) ([]byte, error) {
	seconds := strconv.Itoa(p.seconds)
	switch {
	case p.kind == "node":
		p.query.Set("seconds", seconds)
		return q.File(ctx, "/profile/node?"+p.query.Encode())
	case p.seconds > 0 && p.kind == "cpu":
		return q.File(ctx, "/debug/pprof/profile?seconds="+seconds)
	case p.seconds > 0:
		return p.recordHeap(ctx, q)
	}
	return q.File(ctx, "/profile/"+p.kind)
}

// recordHeap switches a record on and off again, and forgets it once it is here. It is
// switched off as well where the waiting is interrupted.
func (p *profiling) recordHeap(ctx context.Context, q *asking) ([]byte, error) {
	to := func(ctx context.Context, word string) error {
		var states introspect.ProfilesAnswer
		return q.Ask(ctx, http.MethodPost, "/profile/heap", word, &states)
	}
	if err := to(ctx, "on"); err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
	case <-time.After(time.Duration(p.seconds) * time.Second):
	}
	if err := errors.Join(ctx.Err(), to(context.WithoutCancel(ctx), "off")); err != nil {
		return nil, err
	}
	raw, err := q.File(ctx, "/profile/heap")
	return raw, errors.Join(err, to(ctx, "empty"))
}

// write puts the profile where it was asked for, whole or not at all.
func (p *profiling) write(q *asking, raw []byte) error {
	if p.output == "-" || p.named && p.output == "" { // kingpin reads "-o -" as an empty text
		_, err := q.stdout.Write(raw)
		return err
	}
	path := p.output
	flags := os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	if path == "" {
		path = fmt.Sprintf("sonde-%s-%s.pb.gz", p.kind, time.Now().UTC().Format("20060102T150405Z"))
		flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	}
	f, err := os.OpenFile(path, flags, profileMode)
	if err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	_, err = f.Write(raw)
	if err := errors.Join(f.Chmod(profileMode), err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write profile: %w", err), os.Remove(path))
	}
	written := struct {
		File  string `json:"file"`
		Bytes int    `json:"bytes"`
	}{path, len(raw)}
	return q.show(written, func(page *page) {
		page.row(fmt.Sprintf("wrote %s (%d bytes); to look at it: go tool pprof -http=: %s", path, len(raw), path))
	})
}
