package exporter

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the page's files
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"time"
)

//go:embed landing.html
var landingHTML string

//go:embed landing.css
var landingCSS string

//go:embed landing.js
var landingJS string

// maxRefresh bounds the automatic refresh, in seconds.
const maxRefresh = 3600

// landingPage is one self-contained page: nothing is loaded from elsewhere, and its
// script asks for /metrics and nothing else.
type landingPage struct {
	template *template.Template
	policy   string // Content-Security-Policy: its own style and script
}

// sourceHash is how a Content-Security-Policy names a text.
func sourceHash(text string) string {
	hash := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) + "'"
}

func newLandingPage() *landingPage {
	return &landingPage{
		template: template.Must(template.New("landing").Funcs(template.FuncMap{
			"bytes":   formatBytes,
			"percent": formatPercent,
			"since":   formatSince,
			"share":   share,
		}).Parse(landingHTML)),
		policy: fmt.Sprintf("default-src 'none'; style-src %s; script-src %s; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
			sourceHash(landingCSS), sourceHash(landingJS)),
	}
}

// landingData is what the template sees.
type landingData struct {
	Status
	CSS        template.CSS
	JS         template.JS
	Now        time.Time
	Refresh    int // seconds, 0 for none
	Verdict    string
	Level      string   // "ok", "warn" or "bad": the verdict's colour
	Notes      []string // what stands behind the verdict
	Plots      []plot
	Collectors []Summary
	Lost       uint64
}

// plot is a counter whose rate the page draws.
type plot struct{ Title, Family, Collector string }

// plotted are the plots of an agent that has all collectors.
var plotted = []plot{
	{"System calls", "sonde_syscalls_total", "syscalls"},
	{"Programs started", "sonde_process_execs_total", "process"},
	{"Connections opened", "sonde_connections_opened_total", "connections"},
	{"Events lost", "sonde_events_dropped_total", "pipeline"},
}

// plots are those whose collector is on.
func plots(collectors []Summary) []plot {
	return slices.DeleteFunc(slices.Clone(plotted), func(p plot) bool {
		return !slices.ContainsFunc(collectors, func(s Summary) bool { return s.Collector == p.Collector })
	})
}

func (e *Exporter) serveLanding(w http.ResponseWriter, r *http.Request) {
	d := landingData{CSS: template.CSS(landingCSS), JS: template.JS(landingJS), Collectors: e.Summaries()} // our own files
	d.Plots = plots(d.Collectors)
	if e.opts.Status != nil {
		d.Status = e.opts.Status()
	}
	d.Now = time.Now()
	if seconds, err := strconv.Atoi(r.URL.Query().Get("refresh")); err == nil && seconds > 0 {
		d.Refresh = min(seconds, maxRefresh)
	}
	d.judge(e.stuck(), e.notReady())

	var page bytes.Buffer
	if err := e.page.template.Execute(&page, d); err != nil {
		e.log.Error("render landing page", "err", err)
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", e.page.policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	_, _ = page.WriteTo(w) // the client has gone: nobody to tell
}

// judge sums everything up in one word, the worst first.
func (d *landingData) judge(stuck []Stuck, reasons []string) {
	d.Verdict, d.Level = "Well", "ok"
	degrade := func(verdict, level, format string, args ...any) {
		if d.Level != "bad" {
			d.Verdict, d.Level = verdict, level
		}
		d.Notes = append(d.Notes, fmt.Sprintf(format, args...))
	}
	for _, s := range stuck {
		degrade("Stuck", "bad", "%v", s)
	}
	for _, reason := range reasons {
		degrade("Not ready", "bad", "%s", reason)
	}
	for _, p := range d.Probes {
		switch {
		case !p.Attached:
			degrade("Degraded", "warn", "probe %s is not attached: %s", p.Name, p.Reason)
		case p.Reason != "":
			degrade("Degraded", "warn", "probe %s: %s", p.Name, p.Reason)
		}
	}
	for _, c := range d.Collectors {
		if c.Err != "" {
			degrade("Degraded", "warn", "collector %s: %s", c.Collector, c.Err)
		}
	}
	for _, l := range d.Losses {
		d.Lost += l.Count
	}
	if d.Lost > 0 {
		degrade("Degraded", "warn", "%d events were lost since the start", d.Lost)
	}
}

// formatBytes returns a size in binary units; "unknown" for nil.
func formatBytes(v any) string {
	var n uint64
	switch v := v.(type) {
	case *uint64:
		if v == nil {
			return "unknown"
		}
		n = *v
	case uint64:
		n = v
	}
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	size, unit := float64(n), -1
	for size >= 1024 && unit < 4 {
		size, unit = size/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", size, "KMGTP"[unit])
}

// formatPercent returns a share of 1; "unknown" for nil.
func formatPercent(v *float64) string {
	if v == nil {
		return "unknown"
	}
	return fmt.Sprintf("%.2f %%", *v*100)
}

// formatSince returns how long ago something was.
func formatSince(now, at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	d := now.Sub(at)
	switch {
	case d < time.Second:
		return "just now"
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh %dm ago", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd ago", int(d.Hours())/24)
}

// share returns part of whole in percent, for a meter.
func share(part, whole uint64) int {
	if whole == 0 {
		return 0
	}
	return int(float64(part) / float64(whole) * 100)
}
