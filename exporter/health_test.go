package exporter

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestHealthz(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var beats Heartbeats
		ring := beats.Part("ring", 10*time.Second)
		beats.Part("unborn", time.Second)
		idle := beats.Part("idle", time.Second)
		idle.Beat()
		idle.Pause()
		ring.Beat()
		e := newFake(t, Options{Health: &beats}, nil)
		want := func(code int, text string) {
			t.Helper()
			w := get(t, e, "/healthz")
			if w.Code != code || !strings.Contains(w.Body.String(), text) {
				t.Errorf("after %v: %d %q, want %d %q", time.Now(), w.Code, w.Body, code, text)
			}
		}
		want(200, "ok\n")
		time.Sleep(10 * time.Second)
		want(200, "ok\n") // exactly the deadline
		time.Sleep(time.Second)
		want(503, "ring: no sign of life for 11s (deadline 10s)")
		ring.Beat()
		want(200, "ok\n")

		time.Sleep(time.Minute)
		w := get(t, e, "/healthz", "Accept", "application/json")
		var body struct {
			Status string
			Stuck  []Stuck
		}
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
			t.Fatal(err)
		}
		if w.Code != 503 || body.Status != "stuck" || len(body.Stuck) != 1 || body.Stuck[0].Part != "ring" {
			t.Errorf("as JSON: %d %+v", w.Code, body)
		}
	})
}

// TestStuckCollector: one that does not return is named, long after it was given up,
// and no more once it has returned.
func TestStuckCollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stall := make(chan struct{})
		e := newFake(t, Options{Timeout: time.Second}, map[string]CollectorFunc{"hangs": func(context.Context) ([]prometheus.Metric, error) {
			<-stall
			return nil, nil
		}})
		get(t, e, "/metrics")
		time.Sleep((StuckAfter - 1) * time.Second)
		if w := get(t, e, "/healthz"); w.Code != 200 {
			t.Errorf("slow: %d %q", w.Code, w.Body)
		}
		time.Sleep(time.Second)
		if w := get(t, e, "/healthz"); w.Code != 503 || !strings.Contains(w.Body.String(), "collector hangs: no sign of life for 7s (deadline 6s)") {
			t.Errorf("stuck: %d %q", w.Code, w.Body)
		}
		close(stall)
		synctest.Wait()
		if w := get(t, e, "/healthz"); w.Code != 200 {
			t.Errorf("returned: %d %q", w.Code, w.Body)
		}
	})
}

// TestStuckPusher: a push that does not come to an end is named.
func TestStuckPusher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var beats Heartbeats
		stall := make(chan struct{})
		p, err := NewPusher(PushOptions{URL: "http://127.0.0.1:1/", Interval: time.Second, Pulse: beats.Part("push", 3*time.Second)},
			func(context.Context, io.Writer) error { <-stall; return errors.New("nothing") })
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = p.Run(ctx) }()
		time.Sleep(3 * time.Second)
		if stuck := beats.Stuck(time.Now()); len(stuck) != 0 {
			t.Errorf("after three intervals: %v", stuck)
		}
		time.Sleep(2 * time.Second)
		if stuck := beats.Stuck(time.Now()); len(stuck) != 1 || stuck[0].Part != "push" {
			t.Errorf("stuck: %v", stuck)
		}
		close(stall)
		cancel()
		synctest.Wait()
		if stuck := beats.Stuck(time.Now()); len(stuck) != 0 {
			t.Errorf("ended: %v", stuck)
		}
	})
}

func TestReadyz(t *testing.T) {
	var reasons []string
	e := newFake(t, Options{NotReady: func() []string { return reasons }}, nil)
	if w := get(t, e, "/readyz"); w.Code != 200 || w.Body.String() != "ok\n" {
		t.Errorf("ready: %d %q", w.Code, w.Body)
	}
	reasons = []string{"no canary has arrived", "probe tcp is not attached"}
	if w := get(t, e, "/readyz"); w.Code != 503 || w.Body.String() != "not ready\nno canary has arrived\nprobe tcp is not attached\n" {
		t.Errorf("not ready: %d %q", w.Code, w.Body)
	}
	w := get(t, e, "/readyz", "Accept", "application/json")
	if want := `{"reasons":["no canary has arrived","probe tcp is not attached"],"status":"not ready"}` + "\n"; w.Code != 503 || w.Body.String() != want {
		t.Errorf("as JSON: %d %q", w.Code, w.Body)
	}
	if w := get(t, New(Options{}), "/readyz", "Accept", "application/json"); w.Body.String() != `{"status":"ok"}`+"\n" {
		t.Errorf("ready as JSON: %q", w.Body)
	}
}
