package exporter

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func ptr[T any](v T) *T { return &v }

// fullStatus has something of everything, with text that must not become markup.
func fullStatus() Status {
	const evil = `<script>alert("x")</script>`
	return Status{
		Node: "node-1" + evil, Kernel: "6.18.0", Version: "1.2.3", Revision: "abc", Started: time.Now().Add(-90 * time.Minute),
		Probes: []ProbeStatus{
			{Name: "syscalls", Attached: true, How: "tp_btf"},
			{Name: "udp", Attached: true, How: "tracepoint", Reason: "no cgroup v2 " + evil},
			{Name: "drops", Reason: "attach kfree_skb: operation not permitted"},
		},
		Losses: []LossStatus{{Stage: "ring", Reason: "ring_full", Count: 12345}, {Stage: "decode", Reason: "short"}},
		Rings:  []RingStatus{{Name: "events", Size: 8 << 20, Used: 2 << 20, Peak: 7 << 20}, {Name: "empty"}},
		Cost:   CostStatus{CPURatio: ptr(0.0042), MemoryBytes: ptr(uint64(35 << 20)), MemoryLimitBytes: ptr(uint64(256 << 20))},
		Links:  []Link{{"State", "http://127.0.0.1:8080/state/pipeline"}, {"Evil", "javascript:alert(1)"}},
	}
}

func TestLandingPage(t *testing.T) {
	e := newFake(t, Options{Status: fullStatus}, map[string]CollectorFunc{"psi": func(context.Context) ([]prometheus.Metric, error) {
		return nil, errors.New("read <b>psi</b>: permission denied")
	}})
	get(t, e, "/metrics")
	w := get(t, e, "/")
	page := w.Body.String()
	own := "<script>" + landingJS + "</script>"
	if strings.Count(page, own) != 1 {
		t.Error("the page does not have its script")
	}
	page = strings.Replace(page, own, "", 1)
	for _, want := range []string{
		"Degraded", "1.2.3", "6.18.0", "1h 30m ago", // what and how
		"syscalls", "tp_btf", "not attached", "operation not permitted", // probes
		"ring_full", "12345", "12345 events were lost", // losses
		"25 %", "8.0 MiB", "7.0 MiB", // rings
		"0.42 %", "35.0 MiB", "limit 256.0 MiB", "unknown", // cost
		"psi", "permission denied", "just now", `href="/metrics?collect[]=psi"`, // collectors
		"http://127.0.0.1:8080/state/pipeline", "/healthz", "/readyz",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not show %q", want)
		}
	}
	for _, forbidden := range []string{"<script", "<b>psi", `href="javascript:`, "http-equiv"} {
		if strings.Contains(page, forbidden) {
			t.Errorf("the page contains %q", forbidden)
		}
	}
	if m := regexp.MustCompile(`(?i)(src|href)="(https?:)?//[^"]*"`).FindAllString(page, -1); len(m) != 1 {
		t.Errorf("the page refers to %q, want the one given link only", m)
	}
	if p := w.Header().Get("Content-Security-Policy"); !strings.HasPrefix(p, "default-src 'none'; style-src 'sha256-") ||
		!strings.Contains(p, "script-src "+sourceHash(landingJS)+";") || strings.Contains(p, "unsafe") {
		t.Errorf("content security policy %q", p)
	}
	for query, want := range map[string]string{"10": "10", "99999": "3600"} {
		if page := get(t, e, "/?refresh="+query).Body.String(); !strings.Contains(page, `<meta http-equiv="refresh" content="`+want+`">`) {
			t.Errorf("no refresh for %s", query)
		}
	}
	for _, query := range []string{"-1", "x", "0", `10"><script>`} {
		if page := get(t, e, "/?refresh="+query).Body.String(); strings.Contains(page, "http-equiv") {
			t.Errorf("a refresh for %q", query)
		}
	}
}

func TestLandingPageVerdict(t *testing.T) {
	var beats Heartbeats
	beats.Part("ring", -1).Beat()
	cases := map[string]Options{
		"Well":      {Status: func() Status { return Status{Probes: []ProbeStatus{{Name: "tcp", Attached: true}}} }},
		"Degraded":  {Status: func() Status { return Status{Losses: []LossStatus{{Count: 1}}} }},
		"Not ready": {Status: fullStatus, NotReady: func() []string { return []string{"no canary"} }},
		"Stuck":     {Health: &beats, NotReady: func() []string { return []string{"no canary"} }},
	}
	for want, o := range cases {
		page := get(t, newFake(t, o, nil), "/").Body.String()
		if m := regexp.MustCompile(`role="status">.*</span> (.*)</p>`).FindStringSubmatch(page); m == nil || m[1] != want {
			t.Errorf("verdict %q, want %q", m, want)
		}
	}
}
