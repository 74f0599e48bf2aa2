package exporter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"

	"github.com/sonde-ebpf/sonde/internal/metric"
)

// Defaults of Options.
const (
	DefaultTimeout     = 5 * time.Second
	DefaultMaxRequests = 16
)

// StuckAfter is how many timeouts a collector may take to return before it is not
// slow but stuck.
const StuckAfter = 6

// Options configures an Exporter. The zero value serves nothing but /metrics of the
// collectors themselves.
type Options struct {
	Logger *slog.Logger // nil discards

	// ListenAddresses are host:port, or unix:///path.
	ListenAddresses []string
	// Listeners are open already, and served instead. Listen takes them over.
	Listeners []net.Listener
	// WebConfigFile is an exporter-toolkit file (TLS, basic auth); "" for plain HTTP.
	WebConfigFile string

	// Timeout is the deadline of each collector; a scrape that announces a shorter
	// one gets that. 0 means DefaultTimeout.
	Timeout time.Duration
	// MaxRequests bounds the scrapes served at once; more are answered 503. 0 means
	// DefaultMaxRequests.
	MaxRequests int
	// Gatherers are merged into every scrape that does not pick collectors.
	Gatherers []prometheus.Gatherer

	// Health answers for liveness. The exporter adds its collectors, each of which must
	// return within StuckAfter of its timeouts. nil makes one that has nothing else.
	Health *Heartbeats
	// NotReady returns why the agent is not ready, nothing when it is; nil is ready.
	NotReady func() []string
	// Status feeds the landing page; it must be quick. nil shows the collectors only.
	Status func() Status
}

// Exporter serves the metrics of its collectors. Create it with New, give it its
// collectors with Add, then Listen and Serve (or Run).
type Exporter struct {
	opts       Options
	log        *slog.Logger
	collectors []*supervised
	slots      chan struct{} // scrapes at once
	page       *landingPage

	mu        sync.Mutex
	listeners []net.Listener
}

// declared is the catalogue of the exporter's own families.
var declared = metric.NewSet()

// Declared returns the families the exporter itself shows.
func Declared() []metric.Family { return declared.Families() }

var (
	collectorDuration = declared.Gauge("collector_duration_seconds",
		"Time the latest collection of a collector took.",
		metric.Bounded("collector", "the collectors switched on"))
	collectorSuccess = declared.Gauge("collector_success",
		"Whether the latest collection of a collector succeeded.",
		metric.Bounded("collector", "the collectors switched on"))
)

// New returns an exporter. It starts nothing.
func New(o Options) *Exporter {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.MaxRequests <= 0 {
		o.MaxRequests = DefaultMaxRequests
	}
	if o.Health == nil {
		o.Health = &Heartbeats{}
	}
	return &Exporter{
		opts:  o,
		log:   o.Logger,
		slots: make(chan struct{}, o.MaxRequests),
		page:  newLandingPage(),
	}
}

// Add adds a collector under a name of its own. It must be called before Serve.
func (e *Exporter) Add(name string, c Collector) error {
	if slices.ContainsFunc(e.collectors, func(s *supervised) bool { return s.name == name }) {
		return fmt.Errorf("add collector %s: the name is taken", name)
	}
	e.collectors = append(e.collectors, &supervised{
		name: name, collector: c, limit: e.opts.Timeout, log: e.log,
		pulse: e.opts.Health.Part("collector "+name, StuckAfter*e.opts.Timeout),
	})
	return nil
}

// Runtime returns client_golang's own process_ and go_ metrics, for Options.Gatherers.
func Runtime() prometheus.Gatherer {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Summaries returns how the collections went, sorted by collector.
func (e *Exporter) Summaries() []Summary {
	all := make([]Summary, len(e.collectors))
	for i, s := range e.collectors {
		all[i] = s.last()
	}
	slices.SortFunc(all, func(a, b Summary) int { return strings.Compare(a.Collector, b.Collector) })
	return all
}

// gather runs the chosen collectors at once, each under the deadline, and returns
// what they show, sorted by name.
func (e *Exporter) gather(ctx context.Context, chosen []*supervised, timeout time.Duration, gatherers []prometheus.Gatherer) []family {
	outcomes := make([]outcome, len(chosen))
	var wg sync.WaitGroup
	for i, s := range chosen {
		wg.Go(func() { outcomes[i] = s.collect(ctx, timeout) })
	}
	var extra []outcome
	for _, g := range gatherers {
		messages, err := g.Gather()
		if err != nil {
			e.log.Warn("gatherer failed", "err", err)
		}
		extra = append(extra, outcome{families: fromMessages(messages)})
	}
	wg.Wait()
	outcomes = append(outcomes, extra...)
	families := merge(outcomes)
	for i, s := range chosen {
		if o := outcomes[i]; !errors.Is(o.err, errClientGone) {
			s.note(o)
		}
	}
	return slices.SortedFunc(slices.Values(append(families, own(outcomes[:len(chosen)])...)), func(a, b family) int {
		return strings.Compare(a.name(), b.name())
	})
}

// own returns the exporter's own families on the outcomes.
func own(outcomes []outcome) []family {
	metrics := make([]prometheus.Metric, 0, 2*len(outcomes))
	for _, o := range outcomes {
		success := 1.0
		if o.err != nil {
			success = 0
		}
		metrics = append(metrics, collectorDuration.With(o.took.Seconds(), o.name), collectorSuccess.With(success, o.name))
	}
	families, err := group(metrics)
	if err != nil { // a collector's name that is not UTF-8
		return nil
	}
	return families
}

// Gather implements prometheus.Gatherer for tests and other consumers of messages.
func (e *Exporter) Gather() ([]*dto.MetricFamily, error) {
	families := e.gather(context.Background(), e.collectors, e.opts.Timeout, e.opts.Gatherers)
	messages := make([]*dto.MetricFamily, len(families))
	for i := range families {
		var err error
		if messages[i], err = families[i].toMessage(); err != nil {
			return nil, err
		}
	}
	return messages, nil
}

// WriteText gathers everything and writes it in the Prometheus text format 0.0.4,
// for a push or a file.
func (e *Exporter) WriteText(ctx context.Context, w io.Writer) error {
	enc := newTextEncoder(w, false)
	return encode(enc, e.gather(ctx, e.collectors, e.opts.Timeout, e.opts.Gatherers))
}

// Handler returns the routes of the exporter.
func (e *Exporter) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", e.serveMetrics)
	mux.HandleFunc("GET /healthz", e.serveHealth)
	mux.HandleFunc("GET /readyz", e.serveReady)
	mux.HandleFunc("GET /{$}", e.serveLanding)
	return mux
}
