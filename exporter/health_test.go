package exporter

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestHealthz(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var beats Heartbeats
		ring := beats.Part("ring", 10*time.Second)
		idle := beats.Part("idle", time.Second)
		idle.Pause()
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
