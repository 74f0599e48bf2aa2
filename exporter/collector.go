package exporter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Collector turns one subject into metrics. Collect is never called again before it
// has returned. It should stop when ctx ends; one that does not is left behind and
// reported busy until it returns. What it returns together with an error is shown.
type Collector interface {
	Collect(ctx context.Context) ([]prometheus.Metric, error)
}

// CollectorFunc is a function as a Collector.
type CollectorFunc func(ctx context.Context) ([]prometheus.Metric, error)

// Collect calls f.
func (f CollectorFunc) Collect(ctx context.Context) ([]prometheus.Metric, error) { return f(ctx) }

// ErrNoData is returned by a collector whose subject does not exist here, which is
// fine: it counts as a success.
var ErrNoData = errors.New("no data")

// Reasons why a collector is reported failed; the log and the landing page show them.
var (
	errBusy     = errors.New("busy: the previous collection has not returned")
	errDeadline = errors.New("deadline exceeded")
	errPanic    = errors.New("panic")

	errClientGone = errors.New("the client has gone") // not the collector's fault: not reported
)

// outcome is what one collection came to.
type outcome struct {
	name     string
	families []family
	took     time.Duration
	err      error
}

// run is one call of a collector. The fields behind done may be read once done is
// closed.
type run struct {
	started time.Time
	ctx     context.Context
	done    chan struct{}
	outcome outcome
}

// late reports whether the deadline has passed. The clock is asked rather than the
// context, whose own timer may not have run yet.
func (r *run) late() bool {
	deadline, _ := r.ctx.Deadline()
	return !time.Now().Before(deadline)
}

// supervised is a collector and what is known about its collections.
type supervised struct {
	name      string
	collector Collector
	limit     time.Duration // of one run, however impatient the scrape that started it
	log       *slog.Logger
	pulse     *Heartbeat // beats when a run begins, rests between runs

	mu      sync.Mutex
	current *run // nil while none is under way
	summary Summary
}

// Summary is how the collections of one collector went, for the landing page.
type Summary struct {
	Collector   string
	LastSuccess time.Time     // zero if there was none
	Duration    time.Duration // of the latest one
	Err         string        // why the latest one failed, "" if it did not
	Ran         bool
}

// collect returns what the collector has to show. Scrapes that ask at the same time
// share one run; one that has overrun its limit is not joined. The timeout is how long
// this scrape can wait.
func (s *supervised) collect(ctx context.Context, timeout time.Duration) outcome {
	start := time.Now()
	r, err := s.join()
	if err != nil {
		return s.failed(start, err)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	select {
	case <-r.done:
		return r.outcome
	case <-r.ctx.Done():
	case <-ctx.Done():
	}
	select {
	case <-r.done: // it was both: prefer the result
		return r.outcome
	default:
	}
	if err := ctx.Err(); errors.Is(err, context.Canceled) {
		return s.failed(start, errClientGone)
	}
	return s.failed(start, fmt.Errorf("%w after %v", errDeadline, timeout))
}

// join returns the run under way, or starts one.
func (s *supervised) join() (*run, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.current; r != nil {
		if r.late() {
			return nil, errBusy
		}
		return r, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.limit)
	r := &run{started: time.Now(), ctx: ctx, done: make(chan struct{})}
	s.current = r
	s.pulse.Beat()
	go func() {
		defer cancel()
		s.call(r)
	}()
	return r, nil
}

// call runs the collector to its end, whatever that is.
func (s *supervised) call(r *run) {
	var metrics []prometheus.Metric
	err := fmt.Errorf("%w: the collector ended its goroutine", errPanic) // unless it returns
	defer func() {
		if p := recover(); p != nil {
			metrics, err = nil, fmt.Errorf("%w: %v", errPanic, p)
			s.log.Error("collector panicked", "collector", s.name, "panic", p, "stack", string(debug.Stack()))
		}
		s.finish(r, metrics, err)
	}()
	metrics, err = s.collector.Collect(r.ctx)
}

func (s *supervised) finish(r *run, metrics []prometheus.Metric, err error) {
	noData := errors.Is(err, ErrNoData)
	if noData {
		s.log.Debug("collector has no data", "collector", s.name, "err", err)
		err = nil
	}
	families, groupErr := groupSafely(metrics)
	r.outcome = outcome{name: s.name, families: families, took: time.Since(r.started), err: errors.Join(err, groupErr)}
	if r.late() {
		s.log.Warn("collector returned too late", "collector", s.name, "duration", r.outcome.took)
	}
	s.mu.Lock()
	s.current = nil
	s.pulse.Pause()
	s.mu.Unlock()
	close(r.done)
}

// groupSafely is group for metrics of unknown origin: a foreign one may panic when
// it is read.
func groupSafely(metrics []prometheus.Metric) (families []family, err error) {
	defer func() {
		if p := recover(); p != nil {
			families, err = nil, fmt.Errorf("%w while reading the metrics: %v", errPanic, p)
		}
	}()
	return group(metrics)
}

func (s *supervised) failed(start time.Time, err error) outcome {
	return outcome{name: s.name, took: time.Since(start), err: err}
}

// note keeps the summary of what a scrape was told, and logs a failure when it
// begins, changes or ends.
func (s *supervised) note(o outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.summary.Err
	s.summary.Collector, s.summary.Duration, s.summary.Ran = s.name, o.took, true
	if o.err == nil {
		s.summary.LastSuccess, s.summary.Err = time.Now(), ""
		if before != "" {
			s.log.Info("collector recovered", "collector", s.name)
		}
		return
	}
	s.summary.Err = o.err.Error()
	if s.summary.Err != before {
		s.log.Warn("collector failed", "collector", s.name, "err", o.err)
	}
}

func (s *supervised) last() Summary {
	s.mu.Lock()
	defer s.mu.Unlock()
	summary := s.summary
	summary.Collector = s.name
	return summary
}
