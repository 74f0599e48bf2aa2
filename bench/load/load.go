// Package load makes work for a kernel that a sensor watches: processes, endpoints,
// connections, system calls, opened files, or none. A load is limited in rate, the
// same for the same seed, and says whether it kept up with what it was asked for.
package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// Share is the part of its operations that a load must have done to be valid: one
// that fell further behind measures the machine and not the sensor.
const Share = 0.95

// Workload says what load to make. The zero value of a field that a kind does not
// use is ignored.
type Workload struct {
	Kind string `json:"kind"` // one of Kinds
	// Rate is how many operations there are a second, of all workers together; they
	// arrive as a Poisson process does.
	Rate float64 `json:"rate,omitempty"`
	// Seed decides when each operation comes, and what it is.
	Seed uint64 `json:"seed,omitempty"`
	// Workers share the work, each on a thread of its own; 0 is one for each CPU.
	Workers int `json:"workers,omitempty"`
	// Ports is the most that an operation of "endpoints" listens at; how many it
	// does is drawn from a Zipf distribution with this exponent, above 1.
	Ports    int     `json:"ports,omitempty"`
	Exponent float64 `json:"exponent,omitempty"`
	// Hold is how many connections "connections" keeps open besides those that come
	// and go; Addresses is from how many addresses they come, 65 536 at most.
	Hold      int `json:"hold,omitempty"`
	Addresses int `json:"addresses,omitempty"`
}

// Kinds are the kinds of load, and what one operation of each is.
var Kinds = map[string]string{
	"processes":   "start a program that only ends, with an argument that no other has, and wait for it",
	"endpoints":   "listen at a random number of ports, until the worker's next operation",
	"connections": "connect, accept and close, in network namespaces of its own",
	"syscalls":    "make one system call of a mix, one in ten of them a failure",
	"opens":       "open a file and close it",
	"idle":        "none",
}

var makers = map[string]func(*Generator) error{
	"processes":   (*Generator).prepareProcesses,
	"endpoints":   (*Generator).prepareEndpoints,
	"connections": (*Generator).prepareConnections,
	"syscalls":    (*Generator).prepareSyscalls,
	"opens":       (*Generator).prepareOpens,
	"idle":        func(*Generator) error { return nil },
}

// Result is what a load has done in one Run.
type Result struct {
	Workload
	Seconds float64 `json:"seconds"`
	// Due is how many operations were asked for, Done how many there were in time.
	Due  uint64 `json:"due"`
	Done uint64 `json:"done"`
	// Median and P99 are of what an operation took, in seconds.
	Median float64 `json:"median_seconds"`
	P99    float64 `json:"p99_seconds"`
}

// Held reports whether the load kept up, so that what was measured under it counts.
func (r Result) Held() bool { return float64(r.Done) >= Share*float64(r.Due) }

// Generator makes one load. Run may be called again and again, not concurrently.
type Generator struct {
	workload Workload
	operate  func(worker int, random *rand.Rand) error
	pin      func() error // puts a worker's thread where it belongs; nil leaves it
	cleanup  []func()
	runs     uint64
}

// New prepares a load: what it needs is there before the first operation, and gone
// after Close, also when the process is killed, but for a temporary directory.
func New(w Workload) (*Generator, error) {
	prepare, ok := makers[w.Kind]
	if !ok {
		return nil, fmt.Errorf("make load: no kind %q", w.Kind)
	}
	if w.Kind != "idle" && w.Rate <= 0 {
		return nil, fmt.Errorf("make load %s: rate %v: must be positive", w.Kind, w.Rate)
	}
	w.Workers = cmp.Or(w.Workers, runtime.NumCPU())
	g := &Generator{workload: w}
	if err := prepare(g); err != nil {
		return nil, errors.Join(fmt.Errorf("make load %s: %w", w.Kind, err), g.Close())
	}
	return g, nil
}

// Close ends what the load has left open. It returns nil.
func (g *Generator) Close() error {
	for _, undo := range slices.Backward(g.cleanup) {
		undo()
	}
	g.cleanup = nil
	return nil
}

// Run makes the load for d. The first operation that fails ends it with its error, and
// so does the end of ctx.
func (g *Generator) Run(ctx context.Context, d time.Duration) (Result, error) {
	g.runs++
	tallies := make([]tally, g.workload.Workers)
	workers, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	for i := range tallies {
		workers.Go(func() error { return g.work(ctx, i, began, d, &tallies[i]) })
	}
	err := workers.Wait()
	return g.result(time.Since(began), tallies), err
}

// work is one worker. Its thread ends with it where it was put somewhere.
func (g *Generator) work(ctx context.Context, worker int, began time.Time, d time.Duration, t *tally) error {
	if g.workload.Kind == "idle" {
		return sleep(ctx, d)
	}
	runtime.LockOSThread()
	if g.pin == nil {
		defer runtime.UnlockOSThread()
	} else if err := g.pin(); err != nil {
		return err
	}
	stream := g.runs<<32 | uint64(worker)
	s := newSchedule(g.workload.Rate/float64(g.workload.Workers), g.workload.Seed, stream)
	random := rand.New(rand.NewPCG(g.workload.Seed+1, stream))
	for at := s.next(); at < d; at = s.next() {
		t.due++
		if ahead := at - time.Since(began); ahead > early {
			if err := sleep(ctx, ahead); err != nil {
				return err
			}
		}
		start := time.Now()
		if start.Sub(began) > d {
			continue // it comes too late
		}
		if err := g.operate(worker, random); err != nil {
			return err
		}
		t.add(time.Since(start))
		if t.done%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return sleep(ctx, d-time.Since(began))
}

func (g *Generator) result(took time.Duration, tallies []tally) Result {
	r := Result{Workload: g.workload, Seconds: took.Seconds()}
	var all []time.Duration
	for i := range tallies {
		r.Due += tallies[i].due
		r.Done += tallies[i].done
		all = append(all, tallies[i].took...)
	}
	if len(all) > 0 {
		slices.Sort(all)
		r.Median = all[len(all)/2].Seconds()
		r.P99 = all[len(all)*99/100].Seconds()
	}
	return r
}
