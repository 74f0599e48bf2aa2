package stream

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// MaxSessionBytes bounds the text of one session.
const MaxSessionBytes = 1 << 20

// sessionText is a session as a file describes it: the form that gVisor's runtime
// monitoring uses, with a filter beside each point.
type sessionText struct {
	Name   string `json:"name"`
	Points []struct {
		Name           string   `json:"name"`
		OptionalFields []string `json:"optional_fields"`
		ContextFields  []string `json:"context_fields"`
		Filter         Filter   `json:"filter"`
	} `json:"points"`
	Sinks []SinkConfig `json:"sinks"`
	// IgnoreMissing passes over points and fields that this sensor does not have.
	IgnoreMissing bool           `json:"ignore_missing"`
	Options       map[string]any `json:"options"` // of gVisor's own runtime
}

// ParseSession reads a session from JSON: the object itself, or a file that has it
// under the key trace_session, whose other keys are not ours. It returns every fault
// at once. missing are the points and fields that were passed over on request.
func ParseSession(text []byte) (s *Session, missing []string, err error) {
	if len(text) > MaxSessionBytes {
		return nil, nil, fmt.Errorf("parse session: %d bytes: write at most %d", len(text), MaxSessionBytes)
	}
	var outer struct {
		Session json.RawMessage `json:"trace_session"`
	}
	if err := json.Unmarshal(text, &outer); err != nil {
		return nil, nil, fmt.Errorf("parse session: %w", err)
	}
	if outer.Session != nil {
		text = outer.Session
	}
	var t sessionText
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&t); err != nil {
		return nil, nil, fmt.Errorf("parse session: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, nil, errors.New("parse session: something follows it")
	}
	return t.session()
}

func (t *sessionText) session() (s *Session, missing []string, err error) {
	s = &Session{Name: t.Name, Sinks: t.Sinks}
	for _, p := range t.Points {
		point, known := FindPoint(p.Name)
		if !known {
			missing = append(missing, "point "+p.Name)
			continue
		}
		point.Filter = p.Filter
		for _, name := range slices.Concat(p.OptionalFields, p.ContextFields) {
			f, known := event.ParseField(name)
			if !known || f&event.OptionalFields&^optionalFields(&point) != 0 {
				missing = append(missing, fmt.Sprintf("field %s of point %s", name, p.Name))
			}
			point.Fields |= f
		}
		s.put(point)
	}
	var faults []error
	if !t.IgnoreMissing {
		for _, m := range missing {
			faults = append(faults, fmt.Errorf("no %s; ignore_missing passes over it", m))
		}
		missing = nil
	}
	if err := errors.Join(append(faults, s.validate())...); err != nil {
		return nil, nil, fmt.Errorf("parse session %s: %w", t.Name, err)
	}
	return s, missing, nil
}

// put adds a point. Of several entries for the same events the last one counts, as
// gVisor has it.
func (s *Session) put(p Point) {
	for i := range s.Points {
		if s.Points[i].Point == p.Point && s.Points[i].Call == p.Call {
			s.Points[i] = p
			return
		}
	}
	s.Points = append(s.Points, p)
}

// PointMeta describes a point that sessions may name.
type PointMeta struct {
	Name           string   `json:"name"`
	OptionalFields []string `json:"optional_fields"`
	ContextFields  []string `json:"context_fields"`
}

// aliases are the names of gVisor's points that mean the same as ours.
var aliases = map[string]event.Point{
	"sentry/clone":              event.ProcessFork,
	"sentry/execve":             event.ProcessExec,
	"sentry/mmap":               event.ProcessMmap,
	"sentry/task_exit":          event.ProcessExit,
	"sentry/exit_notify_parent": event.ProcessExit,
}

// FindPoint returns the point of that name, an alias included.
func FindPoint(name string) (Point, bool) {
	if p, ok := aliases[name]; ok {
		return Point{Name: name, Point: p}, true
	}
	if c, ok := event.ParseCallPoint(name); ok {
		p := Point{Name: name, Point: event.Syscall, Call: c}
		if c.Raw {
			p.Fields = event.FieldRaw
		}
		return p, true
	}
	for _, p := range event.AllPoints() {
		if p != event.Canary && p != event.Syscall && p.String() == name {
			return Point{Name: name, Point: p}, true
		}
	}
	return Point{}, false
}

// optionalFields returns the fields that only some points can tell, and this one does.
func optionalFields(p *Point) event.Fields {
	switch p.Point {
	case event.Syscall:
		return p.Call.OptionalFields()
	case event.ProcessExec:
		return event.FieldEnvironment | event.FieldDigest
	}
	return 0
}

// AllPoints are the points that tell what happens on the node, all with one filter, but
// for those that happen all the time: system calls, executable mappings, opened files,
// signals.
func AllPoints(f Filter) []Point {
	var all []Point
	for _, p := range event.AllPoints() {
		if !slices.Contains([]event.Point{event.Canary, event.Syscall, event.ProcessMmap, event.FileOpen, event.SignalDeliver}, p) {
			all = append(all, Point{Name: p.String(), Point: p, Fields: event.UsualFields, Filter: f})
		}
	}
	return all
}

// Metadata describes every point that a session may name, in the order of names.
func Metadata() []PointMeta {
	var all []PointMeta
	add := func(name string, optional event.Fields) {
		all = append(all, PointMeta{Name: name, OptionalFields: optional.Names(), ContextFields: (event.AllFields &^ event.OptionalFields).Names()})
	}
	for _, p := range event.AllPoints() {
		if p != event.Canary && p != event.Syscall {
			add(p.String(), optionalFields(&Point{Point: p}))
		}
	}
	for _, c := range event.AllCallPoints() {
		add(c.String(), c.OptionalFields())
	}
	for name, p := range aliases {
		add(name, optionalFields(&Point{Point: p}))
	}
	slices.SortFunc(all, func(a, b PointMeta) int { return cmp.Compare(a.Name, b.Name) })
	return all
}
