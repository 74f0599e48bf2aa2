package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// prometheus is a real server that scrapes one agent.
type prometheus struct {
	url string
	log *lockedBuffer
}

// startPrometheus runs Prometheus against the agent, with or without native histograms.
func startPrometheus(t *testing.T, a *agent, native bool) *prometheus {
	t.Helper()
	p := runPrometheus(t, fmt.Sprintf(`global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
scrape_configs:
  - job_name: sonde
    scrape_native_histograms: %v
    static_configs: [{targets: [%q]}]
`, native, a.address))
	p.waitFor(t, "the first scrape", func() bool { v, ok := p.query(t, `up{job="sonde"}`); return ok && v == 1 })
	return p
}

// runPrometheus runs Prometheus with a configuration.
func runPrometheus(t *testing.T, config string) *prometheus {
	t.Helper()
	out, err := exec.Command("../../hack/tool.sh", "prometheus").Output()
	if err != nil {
		testenv.Skip(t, "needs Prometheus: "+err.Error())
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	p := &prometheus{url: "http://" + address, log: &lockedBuffer{}}
	cmd := exec.Command(strings.TrimSpace(string(out)), "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+address, "--log.level=warn")
	cmd.Stdout, cmd.Stderr = p.log, p.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
	})
	return p
}

// freeAddress returns a loopback address that nobody listens on just now.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (p *prometheus) waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come within 30 s:\n%s", what, p.log)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// query evaluates an expression that yields at most one sample, now.
func (p *prometheus) query(t *testing.T, expr string) (float64, bool) {
	t.Helper()
	samples := p.samples(t, expr)
	if len(samples) == 0 {
		return 0, false
	}
	v, err := strconv.ParseFloat(samples[0].Value[1].(string), 64)
	if err != nil {
		t.Fatal(err)
	}
	return v, true
}

// sample is one of an instant query: a number or a native histogram.
type sample struct {
	Metric    map[string]string
	Value     [2]any
	Histogram []any
}

// samples evaluates an expression now; none while Prometheus is not up yet.
func (p *prometheus) samples(t *testing.T, expr string) []sample {
	t.Helper()
	res, err := http.Get(p.url + "/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		return nil
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Status, Error string
		Data          struct{ Result []sample }
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil
	}
	if answer.Status != "success" {
		t.Fatalf("query %s: %s", expr, answer.Error)
	}
	return answer.Data.Result
}
