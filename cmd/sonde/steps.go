package main

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// Step is one step of the start: what it was, how long it took, how it ended.
type Step struct {
	Name     string
	Duration time.Duration
	Err      error  // nil if it went well
	Detail   string // one phrase on what was found; "" for none
}

// Steps records the steps of a start, in their order. It may be read while the
// start is under way.
type Steps struct {
	mu    sync.Mutex
	began time.Time
	steps []Step
}

// newSteps begins a record.
func newSteps() *Steps { return &Steps{began: time.Now()} }

// Do runs one step and records it. detail is shown beside a step that went well.
func (s *Steps) Do(name string, step func() (detail string, err error)) error {
	began := time.Now()
	detail, err := step()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps = append(s.steps, Step{Name: name, Duration: time.Since(began), Err: err, Detail: detail})
	return err
}

// All returns a copy of the record.
func (s *Steps) All() []Step {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Step(nil), s.steps...)
}

// WriteTable writes the summary for people.
func (s *Steps) WriteTable(w io.Writer) error {
	fmt.Fprintf(w, "start-up summary, %v\n", time.Since(s.began).Round(time.Millisecond))
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, step := range s.All() {
		result, text := "ok", step.Detail
		if step.Err != nil {
			result, text = "FAILED", step.Err.Error()
		}
		// A fault list has one line each; they stay in their column.
		for i, line := range strings.Split(text, "\n") {
			if i == 0 {
				fmt.Fprintf(table, "  %s\t%s\t%v\t%s\n", step.Name, result, step.Duration.Round(10*time.Microsecond), line)
			} else {
				fmt.Fprintf(table, "  \t\t\t%s\n", line)
			}
		}
	}
	return table.Flush()
}

// Log writes the summary as one record, for logs that machines read.
func (s *Steps) Log(log *slog.Logger) {
	attrs := make([]any, 0, len(s.steps))
	for _, step := range s.All() {
		fields := []any{slog.Bool("success", step.Err == nil), slog.Float64("seconds", step.Duration.Seconds())}
		if step.Detail != "" {
			fields = append(fields, slog.String("detail", step.Detail))
		}
		if step.Err != nil {
			fields = append(fields, slog.String("error", step.Err.Error()))
		}
		attrs = append(attrs, slog.Group(step.Name, fields...))
	}
	log.Info("start-up summary", slog.Group("steps", attrs...))
}
