package exporter

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// brokenMetric is a foreign metric that panics when it is read.
type brokenMetric struct{}

func (brokenMetric) Desc() *prometheus.Desc  { return prometheus.NewDesc("foreign", "F.", nil, nil) }
func (brokenMetric) Write(*dto.Metric) error { panic("broken metric") }

// TestFaultCostsItsOwnFamilies gives the exporter one faulty collector of each kind:
// the families of all others are served, and the fault is reported.
func TestFaultCostsItsOwnFamilies(t *testing.T) {
	foreign := prometheus.NewDesc("foreign", "F.", nil, nil)
	cases := map[string]struct {
		collect CollectorFunc
		err     string
		shown   string // what is shown all the same
	}{
		"error": {
			func(context.Context) ([]prometheus.Metric, error) { return nil, errors.New("no such map") },
			"no such map", "",
		},
		"partial": {
			func(context.Context) ([]prometheus.Metric, error) {
				return []prometheus.Metric{prometheus.MustNewConstMetric(foreign, prometheus.GaugeValue, 1)}, errors.New("half")
			},
			"half", "\nforeign 1\n",
		},
		"panic": {
			func(context.Context) ([]prometheus.Metric, error) { panic("out of range") },
			"panic: out of range", "",
		},
		"goexit": {
			func(context.Context) ([]prometheus.Metric, error) { runtime.Goexit(); return nil, nil },
			"ended its goroutine", "",
		},
		"metric panics": {
			func(context.Context) ([]prometheus.Metric, error) { return []prometheus.Metric{brokenMetric{}}, nil },
			"broken metric", "",
		},
		"nil metric": {
			func(context.Context) ([]prometheus.Metric, error) { return []prometheus.Metric{nil}, nil },
			"nil metric", "",
		},
		"wrong label count": {
			func(context.Context) ([]prometheus.Metric, error) {
				return []prometheus.Metric{fakeRatio.With(1, "a", "b"), prometheus.MustNewConstMetric(foreign, prometheus.GaugeValue, 1)}, nil
			},
			"sonde_fake_fill_ratio: wrong number of label values", "\nforeign 1\n",
		},
		"invalid UTF-8": {
			func(context.Context) ([]prometheus.Metric, error) {
				return []prometheus.Metric{fakeRatio.With(1, "\xff")}, nil
			},
			"not UTF-8", "",
		},
		"duplicate, in order": {
			func(context.Context) ([]prometheus.Metric, error) {
				return []prometheus.Metric{fakeRatio.With(1, "x"), fakeRatio.With(2, "x")}, nil
			},
			"duplicate series", "",
		},
		"duplicate, unordered": {
			func(context.Context) ([]prometheus.Metric, error) {
				return []prometheus.Metric{fakeRatio.With(1, "x"), fakeRatio.With(2, "a"), fakeRatio.With(2, "x")}, nil
			},
			"duplicate series", "",
		},
		"duplicate of another collector": {
			func(context.Context) ([]prometheus.Metric, error) {
				return []prometheus.Metric{fakeRatio.With(1, "empty")}, nil
			},
			"duplicate series", "",
		},
		"foreign duplicate": {
			func(context.Context) ([]prometheus.Metric, error) {
				m := prometheus.MustNewConstMetric(foreign, prometheus.GaugeValue, 1)
				return []prometheus.Metric{m, m}, nil
			},
			"collected before", "\nforeign 1\n",
		},
		"name of another family": {
			func(context.Context) ([]prometheus.Metric, error) {
				return []prometheus.Metric{prometheus.MustNewConstMetric(prometheus.NewDesc("sonde_fake_used_bytes", "H.", nil, nil), prometheus.GaugeValue, 1)}, nil
			},
			"another collector shows a family of this name", "",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			e := newFake(t, Options{}, map[string]CollectorFunc{"faulty": c.collect})
			body := get(t, e, "/metrics").Body.String()
			_, bad := success(t, body)
			if !cmp.Equal(bad, []string{"faulty"}) {
				t.Errorf("failed collectors %q, want the faulty one", bad)
			}
			for _, want := range []string{"sonde_fake_used_bytes 4096\n", `sonde_fake_fill_ratio{map="empty"} 0` + "\n", "sonde_fake_calls_total{", c.shown} {
				if !strings.Contains(body, want) {
					t.Errorf("no %q in:\n%s", want, body)
				}
			}
			if err := e.collectors[2].last().Err; !strings.Contains(err, c.err) {
				t.Errorf("reported error %q, want %q", err, c.err)
			}
		})
	}
}

func TestNoDataIsASuccess(t *testing.T) {
	e := newFake(t, Options{}, map[string]CollectorFunc{"absent": func(context.Context) ([]prometheus.Metric, error) {
		return nil, fmt.Errorf("read psi: %w", ErrNoData)
	}})
	if _, bad := success(t, get(t, e, "/metrics").Body.String()); len(bad) > 0 {
		t.Errorf("failed collectors %q, want none", bad)
	}
}

func TestFamilyOfSeveralCollectorsIsMerged(t *testing.T) {
	e := newFake(t, Options{}, map[string]CollectorFunc{"more": func(context.Context) ([]prometheus.Metric, error) {
		return []prometheus.Metric{fakeRatio.With(1, "zzz"), fakeRatio.With(1, "aaa")}, nil
	}})
	body := get(t, e, "/metrics").Body.String()
	if n := strings.Count(body, "# TYPE sonde_fake_fill_ratio gauge"); n != 1 {
		t.Errorf("the family is there %d times", n)
	}
	if a, z := strings.Index(body, `map="aaa"`), strings.Index(body, `map="zzz"`); a < 0 || z < a {
		t.Errorf("samples are not merged in order:\n%s", body)
	}
}

// TestDeadlineBusyAndRecovery takes a collector that ignores its context through all
// states: too slow, then busy, then, having returned, as good as any.
func TestDeadlineBusyAndRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var calls atomic.Int32
		e := newFake(t, Options{Timeout: time.Second}, map[string]CollectorFunc{"slow": func(context.Context) ([]prometheus.Metric, error) {
			calls.Add(1)
			<-release
			return nil, nil
		}})
		slow := e.collectors[2]
		scrape := func(wantErr string, wantTime time.Duration) {
			t.Helper()
			start := time.Now()
			good, _ := success(t, get(t, e, "/metrics").Body.String())
			if took := time.Since(start); took != wantTime {
				t.Errorf("the scrape took %v, want %v", took, wantTime)
			}
			if err := slow.last().Err; !strings.Contains(err, wantErr) || (err == "") != (wantErr == "") {
				t.Errorf("error %q, want %q", err, wantErr)
			}
			if len(good) < 2 {
				t.Errorf("only %q succeeded", good)
			}
		}
		scrape("deadline exceeded after 1s", time.Second)
		scrape("busy", 0)
		scrape("busy", 0)
		if n := calls.Load(); n != 1 {
			t.Errorf("the collector was started %d times", n)
		}
		close(release)
		synctest.Wait()
		if err := slow.last().Err; !strings.Contains(err, "busy") {
			t.Errorf("a late result changed the report to %q", err)
		}
		scrape("", 0)
	})
}

func TestScrapeTimeoutHeaderShortensTheDeadline(t *testing.T) {
	cases := map[string]time.Duration{
		"1": 900 * time.Millisecond, "0.5": 450 * time.Millisecond, "60": 5 * time.Second,
		"": 5 * time.Second, "-1": 5 * time.Second, "NaN": 5 * time.Second, "x": 5 * time.Second, "Inf": 5 * time.Second,
	}
	for header, want := range cases {
		synctest.Test(t, func(t *testing.T) {
			e := newFake(t, Options{}, map[string]CollectorFunc{"slow": func(ctx context.Context) ([]prometheus.Metric, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}})
			start := time.Now()
			get(t, e, "/metrics", timeoutHeader, header)
			if took := time.Since(start); took != want {
				t.Errorf("header %q: the scrape took %v, want %v", header, took, want)
			}
			time.Sleep(DefaultTimeout) // the run itself has its full time
		})
	}
}

// TestAnImpatientScrapeSpoilsNoOther lets a scrape that waits for a short time only
// start the run that a patient one then shares.
func TestAnImpatientScrapeSpoilsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFake(t, Options{}, map[string]CollectorFunc{"slow": func(ctx context.Context) ([]prometheus.Metric, error) {
			select {
			case <-time.After(time.Second):
				return nil, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}})
		get(t, e, "/metrics", timeoutHeader, "0.1")
		if err := e.collectors[2].last().Err; err == "" {
			t.Error("the impatient scrape waited")
		}
		if _, bad := success(t, get(t, e, "/metrics").Body.String()); len(bad) > 0 {
			t.Errorf("the patient scrape reports %q failed", bad)
		}
	})
}

func TestSimultaneousScrapesShareOneCollection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		e := newFake(t, Options{}, map[string]CollectorFunc{"counted": func(context.Context) ([]prometheus.Metric, error) {
			calls.Add(1)
			time.Sleep(time.Second)
			return []prometheus.Metric{prometheus.MustNewConstMetric(prometheus.NewDesc("foreign", "F.", nil, nil), prometheus.GaugeValue, 1)}, nil
		}})
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				path := "/metrics"
				if i%2 == 1 {
					path = "/metrics?collect[]=counted"
				}
				if body := get(t, e, path).Body.String(); !strings.Contains(body, "\nforeign 1\n") {
					t.Errorf("a scrape got no result:\n%s", body)
				}
			})
		}
		wg.Wait()
		if n := calls.Load(); n != 1 {
			t.Errorf("the collector ran %d times for simultaneous scrapes", n)
		}
	})
}

func TestAClientThatLeavesIsNotTheCollectorsFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFake(t, Options{}, map[string]CollectorFunc{"slow": func(context.Context) ([]prometheus.Metric, error) {
			time.Sleep(time.Second)
			return nil, nil
		}})
		ctx, leave := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer leave()
		start := time.Now()
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/metrics", nil)
		time.AfterFunc(50*time.Millisecond, leave)
		w := httptest.NewRecorder()
		e.Handler().ServeHTTP(w, r)
		if took := time.Since(start); took != 50*time.Millisecond || w.Body.Len() > 0 {
			t.Errorf("%d bytes after %v, want none at once", w.Body.Len(), took)
		}
		if s := e.collectors[2].last(); s.Err != "" || s.Ran {
			t.Errorf("the collector is reported as %+v", s)
		}
		time.Sleep(2 * time.Second)
	})
}

func TestTooManyScrapesAreTurnedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFake(t, Options{MaxRequests: 2}, map[string]CollectorFunc{"slow": func(context.Context) ([]prometheus.Metric, error) {
			time.Sleep(time.Second)
			return nil, nil
		}})
		codes := map[int]int{}
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				code := get(t, e, "/metrics").Code
				mu.Lock()
				defer mu.Unlock()
				codes[code]++
			})
		}
		wg.Wait()
		if diff := cmp.Diff(map[int]int{200: 2, 503: 3}, codes); diff != "" {
			t.Errorf("answers (-want +got):\n%s", diff)
		}
		if code := get(t, e, "/metrics").Code; code != 200 {
			t.Errorf("afterwards a scrape is answered %d", code)
		}
	})
}
