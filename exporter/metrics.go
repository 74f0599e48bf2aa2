package exporter

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

// timeoutHeader is how Prometheus announces its scrape timeout.
const timeoutHeader = "X-Prometheus-Scrape-Timeout-Seconds"

// timeoutShare is the part of an announced timeout that collectors may use; the
// rest is for encoding and the way back.
const timeoutShare = 0.9

func (e *Exporter) serveMetrics(w http.ResponseWriter, r *http.Request) {
	select {
	case e.slots <- struct{}{}:
		defer func() { <-e.slots }()
	default:
		w.Header().Set("Retry-After", "1")
		http.Error(w, fmt.Sprintf("%d scrapes are being served, try again later", e.opts.MaxRequests), http.StatusServiceUnavailable)
		return
	}
	chosen, gatherers, err := e.choose(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	families := e.gather(r.Context(), chosen, e.timeout(r.Header), gatherers)
	if r.Context().Err() != nil {
		return // the client has gone
	}
	if err := respond(w, r, families); err != nil {
		e.log.Debug("write metrics", "err", err, "client", r.RemoteAddr)
	}
}

// choose picks the collectors of a scrape: those named by collect[], all but those
// named by exclude[], or all. The gatherers belong to everything but a pick.
func (e *Exporter) choose(q url.Values) ([]*supervised, []prometheus.Gatherer, error) {
	collect, exclude := q["collect[]"], q["exclude[]"]
	if len(collect) > 0 && len(exclude) > 0 {
		return nil, nil, errors.New("collect[] and exclude[] cannot be combined")
	}
	for _, name := range slices.Concat(collect, exclude) {
		if !slices.ContainsFunc(e.collectors, func(s *supervised) bool { return s.name == name }) {
			return nil, nil, fmt.Errorf("no collector %q", name)
		}
	}
	if len(collect) == 0 && len(exclude) == 0 {
		return e.collectors, e.opts.Gatherers, nil
	}
	var chosen []*supervised
	for _, s := range e.collectors {
		if slices.Contains(collect, s.name) || len(exclude) > 0 && !slices.Contains(exclude, s.name) {
			chosen = append(chosen, s)
		}
	}
	if len(collect) > 0 {
		return chosen, nil, nil
	}
	return chosen, e.opts.Gatherers, nil
}

// timeout returns the deadline of the collectors for one scrape.
func (e *Exporter) timeout(h http.Header) time.Duration {
	seconds, err := strconv.ParseFloat(h.Get(timeoutHeader), 64)
	if err != nil || !(seconds > 0) || math.IsInf(seconds, 0) {
		return e.opts.Timeout
	}
	if announced := seconds * timeoutShare; announced < e.opts.Timeout.Seconds() {
		return time.Duration(announced * float64(time.Second))
	}
	return e.opts.Timeout
}

// respond encodes the families as the client prefers. An error means that the client
// could not be written to: the status has long been sent.
func respond(w http.ResponseWriter, r *http.Request, families []family) error {
	format := expfmt.NegotiateAccept(r.Header, accepted...)
	h := w.Header()
	h.Set("Content-Type", string(format))
	h.Add("Vary", "Accept")
	h.Add("Vary", "Accept-Encoding")
	if r.Method == http.MethodHead {
		return nil
	}
	if acceptsGzip(r.Header.Get("Accept-Encoding")) {
		h.Set("Content-Encoding", "gzip")
		z := gzipWriters.Get().(*gzip.Writer)
		z.Reset(w)
		defer func() {
			z.Reset(io.Discard) // keep no reference to the response
			gzipWriters.Put(z)
		}()
		if err := encode(newEncoder(z, format), families); err != nil {
			return err
		}
		return z.Close()
	}
	return encode(newEncoder(w, format), families)
}

// gzipWriters compress fast: the exposition is so repetitive that a slower level
// gains little and costs several times the rest of the scrape.
var gzipWriters = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed) // the level is valid
	return z
}}

// acceptsGzip reads an Accept-Encoding header. A coding with q=0 is refused.
func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		coding, params, _ := strings.Cut(part, ";")
		if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			continue
		}
		q, found := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q=")
		if !found {
			return true
		}
		weight, err := strconv.ParseFloat(q, 64)
		return err == nil && weight > 0
	}
	return false
}
