package introspect

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/stream"
)

// SessionAnswer is one session, as /trace/sessions shows it.
type SessionAnswer struct {
	Name    string       `json:"name"`
	Created time.Time    `json:"created"`
	Points  []string     `json:"points"`
	Sinks   []SinkAnswer `json:"sinks"`
}

// SinkAnswer is the ledger of one sink: matched is delivered, filtered, dropped and
// queued together.
type SinkAnswer struct {
	Sink      string            `json:"sink"`
	Up        bool              `json:"up"`
	Trouble   string            `json:"trouble,omitempty"`
	Matched   uint64            `json:"matched"`
	Delivered uint64            `json:"delivered"`
	Filtered  uint64            `json:"filtered"`
	Dropped   uint64            `json:"dropped"`
	Reasons   map[string]uint64 `json:"dropped_by_reason"`
	Queued    int               `json:"queued"`
	Capacity  int               `json:"capacity"`
}

// CreatedAnswer is what POST /trace/sessions answers.
type CreatedAnswer struct {
	Name string `json:"name"`
	// Missing is what was asked for and passed over.
	Missing []string `json:"missing"`
}

// TraceMetadataAnswer is what a session may name.
type TraceMetadataAnswer struct {
	Points []stream.PointMeta `json:"points"`
	Sinks  []string           `json:"sinks"`
}

func sessionAnswer(s stream.SessionStat) SessionAnswer {
	a := SessionAnswer{Name: s.Name, Created: s.Created, Points: []string{}, Sinks: []SinkAnswer{}}
	for _, p := range s.Points {
		a.Points = append(a.Points, p.Name)
	}
	for _, k := range s.Sinks {
		sink := SinkAnswer{
			Sink: k.Sink, Up: k.Up, Trouble: k.Trouble, Matched: k.Matched, Delivered: k.Delivered, Filtered: k.Filtered, Dropped: k.Lost(),
			Reasons: map[string]uint64{}, Queued: k.Queued, Capacity: k.Capacity,
		}
		for loss, n := range k.Dropped {
			if n > 0 {
				sink.Reasons[event.Loss(loss).Reason()] = n
			}
		}
		a.Sinks = append(a.Sinks, sink)
	}
	return a
}

// sessions answers GET /trace/sessions.
func (c *call) sessions() error {
	if c.sources.Trace == nil {
		return missing("sessions")
	}
	all := []SessionAnswer{}
	for _, s := range c.sources.Trace.Sessions() {
		all = append(all, sessionAnswer(s))
	}
	return c.answer(all)
}

// createSession answers POST /trace/sessions.
func (c *call) createSession() error {
	if c.sources.Trace == nil {
		return missing("sessions")
	}
	text, err := c.body()
	if err != nil {
		return err
	}
	name, passed, err := c.sources.Trace.CreateSession(text)
	c.change = fmt.Sprintf("session %q created", name)
	switch {
	case errors.Is(err, stream.ErrSessionExists), errors.Is(err, stream.ErrTooManySession):
		return problemf(http.StatusConflict, "%v", err)
	case errors.Is(err, stream.ErrNotAdmitted):
		return problemf(http.StatusServiceUnavailable, "%v", err)
	case err != nil:
		return &problem{http.StatusBadRequest, err.Error(), nil}
	}
	return c.answer(CreatedAnswer{name, notNil(passed)})
}

// deleteTimeout is how long the sinks of a session may take to empty their queues. With
// what a sink may take to return after it, it ends before a client's patience.
const deleteTimeout = 5 * time.Second

// deleteSession answers DELETE /trace/sessions/{name}.
func (c *call) deleteSession() error {
	if c.sources.Trace == nil {
		return missing("sessions")
	}
	name := c.r.PathValue("name")
	c.change = fmt.Sprintf("session %q deleted", name)
	ctx, done := context.WithTimeout(c.r.Context(), deleteTimeout)
	defer done()
	s, err := c.sources.Trace.DeleteSession(ctx, name)
	switch {
	case errors.Is(err, stream.ErrNoSession):
		return problemf(http.StatusNotFound, "%v", err)
	case err != nil:
		return problemf(http.StatusInternalServerError, "%v", err)
	}
	return c.answer(sessionAnswer(s))
}

// traceMetadata answers GET /trace/metadata.
func (c *call) traceMetadata() error {
	if c.sources.Trace == nil {
		return missing("sessions")
	}
	return c.answer(TraceMetadataAnswer{stream.Metadata(), c.sources.Trace.SinkKinds()})
}
