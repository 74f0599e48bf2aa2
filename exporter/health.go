package exporter

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Stuck is a part that gave no sign of life for longer than it may.
type Stuck struct {
	Part     string        `json:"part"`
	Silent   time.Duration `json:"silent_ns"`
	Deadline time.Duration `json:"deadline_ns"`
}

func (s Stuck) String() string {
	return fmt.Sprintf("%s: no sign of life for %v (deadline %v)", s.Part, s.Silent.Round(time.Millisecond), s.Deadline)
}

// Heartbeats tells whether the long-lived parts of the agent are alive: each beats,
// and one that stops is stuck. The zero value has no parts.
type Heartbeats struct {
	mu    sync.Mutex
	parts []*Heartbeat
}

// Heartbeat is the sign of life of one part. Its methods may be called from any
// goroutine and cost a look at the clock and one atomic store.
type Heartbeat struct {
	of       *Heartbeats
	part     string
	deadline time.Duration
	last     atomic.Int64 // nanoseconds since birth; 0 while paused
}

// birth is the zero of a clock that does not jump when somebody sets the time.
var birth = time.Now()

// Part returns the heartbeat of a new part. It may keep silent until its first beat,
// and from then on for the deadline.
func (h *Heartbeats) Part(name string, deadline time.Duration) *Heartbeat {
	b := &Heartbeat{of: h, part: name, deadline: deadline}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.parts = append(h.parts, b)
	return b
}

// Beat says that the part is alive.
func (b *Heartbeat) Beat() { b.last.Store(int64(time.Since(birth))) }

// Pause exempts the part until it beats again, such as one that waits for work
// without a limit or has ended in good order.
func (b *Heartbeat) Pause() { b.last.Store(0) }

// End says that the part is no more: nobody waits for it, even if it was stuck.
func (b *Heartbeat) End() {
	b.of.mu.Lock()
	defer b.of.mu.Unlock()
	b.of.parts = slices.DeleteFunc(b.of.parts, func(part *Heartbeat) bool { return part == b })
}

// Stuck returns the part if it has been silent for longer than it may.
func (b *Heartbeat) Stuck(now time.Time) (s Stuck, stuck bool) {
	last := b.last.Load()
	silent := now.Sub(birth) - time.Duration(last)
	return Stuck{b.part, silent, b.deadline}, last != 0 && silent > b.deadline
}

// Stuck returns the parts that are, by name.
func (h *Heartbeats) Stuck(now time.Time) []Stuck {
	h.mu.Lock()
	defer h.mu.Unlock()
	var stuck []Stuck
	for _, b := range h.parts {
		if s, is := b.Stuck(now); is {
			stuck = append(stuck, s)
		}
	}
	slices.SortFunc(stuck, func(a, b Stuck) int { return strings.Compare(a.Part, b.Part) })
	return stuck
}

func (e *Exporter) stuck() []Stuck { return e.opts.Health.Stuck(time.Now()) }

func (e *Exporter) notReady() []string {
	if e.opts.NotReady == nil {
		return nil
	}
	return e.opts.NotReady()
}

// serveHealth answers for liveness: 200, or 503 with the parts that are stuck.
func (e *Exporter) serveHealth(w http.ResponseWriter, r *http.Request) {
	stuck := e.stuck()
	lines := make([]string, len(stuck))
	for i, s := range stuck {
		lines[i] = s.String()
	}
	answer(w, r, "stuck", lines, map[string]any{"stuck": stuck})
}

// serveReady answers whether the agent does its work: 200, or 503 with the reasons
// why not.
func (e *Exporter) serveReady(w http.ResponseWriter, r *http.Request) {
	reasons := e.notReady()
	answer(w, r, "not ready", reasons, map[string]any{"reasons": reasons})
}

// answer writes 200 "ok" where there is no fault, else 503 with one line each; as
// JSON, with the details, where the client asks for that.
func answer(w http.ResponseWriter, r *http.Request, fault string, lines []string, details map[string]any) {
	status, code := "ok", http.StatusOK
	if len(lines) > 0 {
		status, code = fault, http.StatusServiceUnavailable
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		body := map[string]any{"status": status}
		if code != http.StatusOK {
			body = details
			body["status"] = status
		}
		_ = json.NewEncoder(w).Encode(body) // the client has gone: nobody to tell
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	fmt.Fprintln(w, status)
	for _, line := range lines {
		fmt.Fprintln(w, line)
	}
}
