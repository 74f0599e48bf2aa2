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
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	vm "github.com/VictoriaMetrics/metrics"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/internal/metric"
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

	CAFile            string // PEM; "" for the system's authorities
	CertFile, KeyFile string // client certificate; read for every connection
	Username          string
	PasswordFile      string
	BearerTokenFile   string
	HeadersFile       string // one "Name: value" a line; # begins a comment

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
	send   *pushTransport
	vmURL  string
	labels string
	start  time.Time

	attempts atomic.Uint64
	failures [pushReasons]atomic.Uint64
}

// pushReason is why a try failed: the values of the label reason.
type pushReason int

const (
	pushGather       pushReason = iota // nothing to send
	pushCredentials                    // a file could not be read
	pushConnect                        // no connection
	pushTLS                            // no trust
	pushTimeout                        // no answer in time
	pushRedirect                       // the answer points elsewhere, where credentials must not go
	pushUnauthorized                   // 401, 403
	pushRejected                       // other 4xx
	pushServer                         // 5xx, 429
	pushReasons      = int(iota)
)

var pushReasonNames = [pushReasons]string{
	"gather", "credentials", "connect", "tls", "timeout", "redirect", "unauthorized", "rejected", "server",
}

func (r pushReason) String() string { return pushReasonNames[r] }

// retriable reports whether the same try may succeed a moment later.
func (r pushReason) retriable() bool {
	return r == pushConnect || r == pushTimeout || r == pushServer
}

var (
	pushAttempts = declared.Counter("push_attempts_total",
		"Tries to push the metrics, successful or not.")
	pushFailures = declared.Counter("push_failures_total",
		"Failed tries to push the metrics.", metric.Enum("reason", pushReasonNames[:]...))
)

// pushError is a failed try.
type pushError struct {
	reason     pushReason
	err        error
	retryAfter time.Duration // asked for by the receiver, 0 if not
}

func (e *pushError) Error() string { return e.err.Error() }
func (e *pushError) Unwrap() error { return e.err }

// NewPusher returns a pusher of what write writes in the Prometheus text format, such
// as Exporter.WriteText. It starts nothing; it returns every fault of the options.
func NewPusher(o PushOptions, write func(context.Context, io.Writer) error) (*Pusher, error) {
	o.setDefaults()
	p := &Pusher{opts: o, log: o.Logger, write: write, labels: extraLabels(o.Job, o.Instance), start: time.Now()}

	target, urlErr := parsePushURL(o.URL)
	send, transportErr := newPushTransport(&p.opts, target)
	if err := errors.Join(urlErr, o.validate(), transportErr); err != nil {
		return nil, fmt.Errorf("set up push: %w", err)
	}
	p.send, p.vmURL = send, send.outerURL()
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
	if (o.Username == "") != (o.PasswordFile == "") {
		faults = append(faults, errors.New("user name and password file belong together"))
	}
	if o.Username != "" && o.BearerTokenFile != "" {
		faults = append(faults, errors.New("user name and bearer token file exclude each other"))
	}
	return errors.Join(faults...)
}

func parsePushURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.New("url: malformed") // the error would repeat what may be a secret
	case u.User != nil:
		return nil, errors.New("url: credentials belong in files")
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return nil, fmt.Errorf("url %q: want http or https and a host", s)
	}
	return u, nil
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
			p.log.Warn("final push failed", "reason", err.reason.String(), "err", err)
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
		pause := max(backoff/2+jitter(backoff/2), err.retryAfter)
		deadline, _ := ctx.Deadline()
		if try >= p.opts.Retries || !err.reason.retriable() || time.Until(deadline) < pause || !sleep(ctx, pause) {
			p.log.Warn("push failed", "reason", err.reason.String(), "tries", try+1, "err", err)
			return
		}
		backoff = min(2*backoff, maxPushBackoff)
	}
}

func (p *Pusher) gather(ctx context.Context) ([]byte, error) {
	var body bytes.Buffer
	if err := p.write(ctx, &body); err != nil {
		p.attempts.Add(1)
		p.failures[pushGather].Add(1)
		p.log.Warn("push failed", "reason", pushGather.String(), "err", err)
		return nil, err
	}
	return body.Bytes(), nil
}

// try sends the body once.
func (p *Pusher) try(ctx context.Context, body []byte) *pushError {
	p.attempts.Add(1)
	ctx, cancel := context.WithTimeout(ctx, p.opts.Timeout)
	defer cancel()
	a := &pushAttempt{transport: p.send}
	err := vm.PushMetricsExt(a.context(ctx), p.vmURL, func(w io.Writer) { _, _ = w.Write(body) }, &vm.PushOptions{
		ExtraLabels: p.labels,
		Method:      http.MethodPost,
	})
	failure := a.result(err)
	if failure != nil {
		p.failures[failure.reason].Add(1)
	}
	return failure
}

// Collect returns the pusher's counters, every reason from the start.
func (p *Pusher) Collect(context.Context) ([]prometheus.Metric, error) {
	metrics := []prometheus.Metric{pushAttempts.WithCreated(float64(p.attempts.Load()), p.start)}
	for r := range p.failures {
		metrics = append(metrics, pushFailures.WithCreated(float64(p.failures[r].Load()), p.start, pushReason(r).String()))
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
