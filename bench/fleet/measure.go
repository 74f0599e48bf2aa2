package fleet

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Options say how a Prometheus is measured.
type Options struct {
	Nodes      int
	Interval   time.Duration // between scrapes
	For        time.Duration // after the first scrapes of all nodes
	Prometheus string        // the program
	Rules      string        // file of rules, absolute; "" for none
}

// Result is what a Prometheus took for the nodes.
type Result struct {
	Nodes            int
	Series           float64 // in its head
	SamplesPerSecond float64 // floats and native histograms
	MemoryBytes      float64 // resident
	CPU              float64 // share of one core
	RulesSeconds     float64 // of one evaluation of all groups of rules
	WALBytes         float64 // per second
	Down             float64 // nodes whose last scrape has failed
}

// Measure has a Prometheus scrape the nodes, and looks at what it took when it has seen
// all of them.
func Measure(ctx context.Context, r *Recording, o Options) (res Result, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return res, err
	}
	server := &http.Server{Handler: nodes(r)}
	go server.Serve(l)
	defer server.Close()
	p, err := start(o, l.Addr().String())
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()

	if err := p.await(ctx, o); err != nil {
		return res, err
	}
	before, err := p.look(ctx)
	if err != nil {
		return res, err
	}
	began := time.Now()
	select {
	case <-time.After(o.For):
	case <-ctx.Done():
		return res, ctx.Err()
	}
	after, err := p.look(ctx)
	if err != nil {
		return res, err
	}
	seconds := time.Since(began).Seconds()
	rate := func(name string) float64 { return (after[name] - before[name]) / seconds }
	return Result{
		Nodes: o.Nodes, Series: after["prometheus_tsdb_head_series"], SamplesPerSecond: rate("prometheus_tsdb_head_samples_appended_total"),
		MemoryBytes: after["process_resident_memory_bytes"], CPU: rate("process_cpu_seconds_total"),
		RulesSeconds: after["prometheus_rule_group_last_duration_seconds"], WALBytes: rate("wal"),
		Down: after["down"],
	}, nil
}

// nodes answers for every node, packed as the exporter packs.
func nodes(r *Recording) http.Handler {
	began := time.Now()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /node/{n}/metrics", func(w http.ResponseWriter, q *http.Request) {
		n, err := strconv.Atoi(q.PathValue("n"))
		if err != nil {
			http.NotFound(w, q)
			return
		}
		w.Header().Set("Content-Type", string(protobuf))
		out := io.Writer(w)
		if strings.Contains(q.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			packer, _ := gzip.NewWriterLevel(w, gzip.BestSpeed) // the level is one
			defer packer.Close()
			out = packer
		}
		_ = r.At(out, n, time.Since(began)) // the Prometheus has gone
	})
	return mux
}

// server is a Prometheus that is measured.
type server struct {
	cmd *exec.Cmd
	dir string
	url string
	log string
}

func start(o Options, nodes string) (*server, error) {
	dir, err := os.MkdirTemp("", "sonde-fleet-")
	if err != nil {
		return nil, err
	}
	p := &server{dir: dir, log: filepath.Join(dir, "log")}
	var c strings.Builder
	fmt.Fprintf(&c, "global: {scrape_interval: %v, evaluation_interval: %v}\n", o.Interval, o.Interval)
	if o.Rules != "" {
		fmt.Fprintf(&c, "rule_files: [%q]\n", o.Rules)
	}
	c.WriteString("scrape_configs:\n  - job_name: sonde\n    scrape_native_histograms: true\n    relabel_configs:\n" +
		"      - {source_labels: [__path], target_label: __metrics_path__}\n    static_configs:\n")
	for n := range o.Nodes {
		fmt.Fprintf(&c, "      - {targets: [%q], labels: {__path: /node/%d/metrics, instance: node-%d}}\n", nodes, n, n)
	}
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, []byte(c.String()), 0o600); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	address := free.Addr().String()
	_ = free.Close()
	log, err := os.Create(p.log)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	defer log.Close()
	p.url = "http://" + address
	p.cmd = exec.Command(o.Prometheus, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address, "--log.level=warn")
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start Prometheus: %w", err), os.RemoveAll(dir))
	}
	return p, nil
}

func (p *server) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	_ = p.cmd.Wait()
	return os.RemoveAll(p.dir)
}

// startTime is how long a Prometheus may take to start, besides two intervals in which it
// scrapes every node.
const startTime = time.Minute

// await waits until every node has been scraped.
func (p *server) await(ctx context.Context, o Options) error {
	deadline := time.Now().Add(startTime + 2*o.Interval)
	for {
		seen, err := p.look(ctx)
		if err == nil && int(seen["up"]) == o.Nodes {
			return nil
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(p.log)
			return fmt.Errorf("%.0f of %d nodes are up (%w)\n%s", seen["up"], o.Nodes, err, log)
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// look reads what the Prometheus says of itself, series of a name added up, with what its
// log of writes takes ("wal") and how many nodes are up and down.
func (p *server) look(ctx context.Context) (map[string]float64, error) {
	all, _, err := scrape(ctx, p.url+"/metrics", "identity")
	if err != nil {
		return nil, err
	}
	sums := map[string]float64{}
	for _, f := range all {
		for _, m := range f.Metric {
			sums[f.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	err = filepath.WalkDir(filepath.Join(p.dir, "data", "wal"), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sums["wal"] += float64(info.Size())
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // segments come and go
		return nil, err
	}
	sums["up"], sums["down"], err = p.targets(ctx)
	return sums, err
}
