package exporter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	vm "github.com/VictoriaMetrics/metrics"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/internal/metric"
	"github.com/sonde-ebpf/sonde/internal/outbound"
)

// Defaults of PushOptions.
const (
	DefaultPushInterval = 30 * time.Second
	DefaultPushTimeout  = 10 * time.Second
	DefaultPushRetries  = 3
	DefaultPushBackoff  = time.Second
)

// maxPushBackoff bounds the pause between two tries.
const maxPushBackoff = 30 * time.Second

// finalPushTimeout bounds the last push, made when the agent stops.
const finalPushTimeout = 3 * time.Second

// PushOptions configures a Pusher. Files with credentials are read again for every
// try, so that they can be replaced while the agent runs.
type PushOptions struct {
	Logger *slog.Logger // nil discards

	// URL is an import address for the Prometheus text format, such as VictoriaMetrics'
	// /api/v1/import/prometheus or Pushgateway's /metrics/job/<job>. Credentials in it
	// are refused.
	URL      string
	Interval time.Duration // 0: DefaultPushInterval
	Timeout  time.Duration // of one try; 0: DefaultPushTimeout
	Retries  int           // tries after the first; 0: DefaultPushRetries, below 0: none
	Backoff  time.Duration // before the first retry, doubled each time; 0: DefaultPushBackoff

	Job, Instance string // labels added to every series; "" adds none

	outbound.Trust
	outbound.Credentials

	// Pulse beats before every push; nil for none. A push takes an interval at most,
	// and so does the pause after it.
	Pulse *Heartbeat
}

// Pusher sends the exposition to a receiver at an interval, for nodes that cannot be
// scraped. It is also the Collector of its own counters.
type Pusher struct {
	opts   PushOptions
	log    *slog.Logger
	write  func(context.Context, io.Writer) error
	send   *outbound.Client
	vmURL  string
	labels string
	start  time.Time

	attempts atomic.Uint64
	gathers  atomic.Uint64 // that failed
	failures [outbound.Reasons]atomic.Uint64
}

// gatherReason is the reason of a push that had nothing to send.
const gatherReason = "gather"

var (
	pushAttempts = declared.Counter("push_attempts_total",
		"Tries to push the metrics, successful or not.")
	pushFailures = declared.Counter("push_failures_total",
		"Failed tries to push the metrics.", metric.Enum("reason", append([]string{gatherReason}, outbound.Names()...)...))
)

// NewPusher returns a pusher of what write writes in the Prometheus text format, such
// as Exporter.WriteText. It starts nothing; it returns every fault of the options.
func NewPusher(o PushOptions, write func(context.Context, io.Writer) error) (*Pusher, error) {
	o.setDefaults()
	p := &Pusher{opts: o, log: o.Logger, write: write, labels: extraLabels(o.Job, o.Instance), start: time.Now()}

	send, err := outbound.New(outbound.Options{
		URL: o.URL, Trust: o.Trust, Credentials: o.Credentials, IdleTimeout: 2 * o.Interval,
	})
	if err := errors.Join(o.validate(), err, installHook()); err != nil {
		return nil, fmt.Errorf("set up push: %w", err)
	}
	outer := send.Target()
	outer.Scheme = hookScheme
	p.send, p.vmURL = send, outer.String()
	return p, nil
}

func (o *PushOptions) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Interval == 0 {
		o.Interval = DefaultPushInterval
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultPushTimeout
	}
	if o.Retries == 0 {
		o.Retries = DefaultPushRetries
	}
	if o.Backoff == 0 {
		o.Backoff = DefaultPushBackoff
	}
	if o.Pulse == nil {
		o.Pulse = &Heartbeat{}
	}
}

func (o *PushOptions) validate() error {
	var faults []error
	for name, d := range map[string]time.Duration{"interval": o.Interval, "timeout": o.Timeout, "backoff": o.Backoff} {
		if d < 0 {
			faults = append(faults, fmt.Errorf("%s %v: must be positive", name, d))
		}
	}
	return errors.Join(faults...)
}

// extraLabels returns the labels as the text format writes them.
func extraLabels(job, instance string) string {
	var pairs []string
	for _, l := range [][2]string{{"job", job}, {"instance", instance}} {
		if l[1] != "" {
			pairs = append(pairs, l[0]+`="`+escapeValue.Replace(l[1])+`"`)
		}
	}
	return strings.Join(pairs, ",")
}

// Run pushes until ctx ends, and then once more, so that the last counts arrive. A
// receiver that fails is no reason to end: Run returns nil.
func (p *Pusher) Run(ctx context.Context) error {
	defer p.opts.Pulse.Pause()
	p.opts.Pulse.Beat()
	pause := jitter(p.opts.Interval) // so that nodes started together do not push together
	for sleep(ctx, pause) {
		p.opts.Pulse.Beat()
		begin := time.Now()
		p.push(ctx)
		pause = max(p.opts.Interval-time.Since(begin), 0)
	}
	final, cancel := context.WithTimeout(context.WithoutCancel(ctx), finalPushTimeout)
	defer cancel()
	if body, err := p.gather(final); err == nil {
		if err := p.try(final, body); err != nil {
			p.log.Warn("final push failed", "reason", err.Reason.String(), "err", err)
		}
	}
	return nil
}

// push sends what is gathered now, with retries, within one interval: by then there
// is something newer to send.
func (p *Pusher) push(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, p.opts.Interval)
	defer cancel()
	body, err := p.gather(ctx)
	if err != nil {
		return
	}
	backoff := p.opts.Backoff
	for try := 0; ; try++ {
		err := p.try(ctx, body)
		if err == nil {
			return
		}
		pause := max(backoff/2+jitter(backoff/2), err.RetryAfter)
		deadline, _ := ctx.Deadline()
		if try >= p.opts.Retries || !err.Reason.Retriable() || time.Until(deadline) < pause || !sleep(ctx, pause) {
			p.log.Warn("push failed", "reason", err.Reason.String(), "tries", try+1, "err", err)
			return
		}
		backoff = min(2*backoff, maxPushBackoff)
	}
}

func (p *Pusher) gather(ctx context.Context) ([]byte, error) {
	var body bytes.Buffer
	if err := p.write(ctx, &body); err != nil {
		p.attempts.Add(1)
		p.gathers.Add(1)
		p.log.Warn("push failed", "reason", gatherReason, "err", err)
		return nil, err
	}
	return body.Bytes(), nil
}

// try sends the body once.
func (p *Pusher) try(ctx context.Context, body []byte) *outbound.Failure {
	p.attempts.Add(1)
	ctx, cancel := context.WithTimeout(ctx, p.opts.Timeout)
	defer cancel()
	a := &pushAttempt{client: p.send}
	err := vm.PushMetricsExt(a.context(ctx), p.vmURL, func(w io.Writer) { _, _ = w.Write(body) }, &vm.PushOptions{
		ExtraLabels: p.labels,
		Method:      http.MethodPost,
	})
	failure := a.result(err)
	if failure != nil {
		p.failures[failure.Reason].Add(1)
	}
	return failure
}

// Collect returns the pusher's counters, every reason from the start.
func (p *Pusher) Collect(context.Context) ([]prometheus.Metric, error) {
	metrics := []prometheus.Metric{
		pushAttempts.WithCreated(float64(p.attempts.Load()), p.start),
		pushFailures.WithCreated(float64(p.gathers.Load()), p.start, gatherReason),
	}
	for r := range p.failures {
		metrics = append(metrics, pushFailures.WithCreated(float64(p.failures[r].Load()), p.start, outbound.Reason(r).String()))
	}
	return metrics, nil
}

// jitter returns a random duration below d.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}

// sleep waits and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return ctx.Err() == nil
	}
}
