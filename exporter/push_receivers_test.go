package exporter

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// freeAddress returns a loopback address that was free a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// startReceiver runs the program until the test ends and waits for its address.
func startReceiver(t *testing.T, address, program string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = t.TempDir()
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen: %v", program, err)
		}
	}
}

func fetch(t *testing.T, address string) string {
	t.Helper()
	resp, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// pushFake pushes the whole exposition of the fake collectors once.
func pushFake(t *testing.T, address string) {
	t.Helper()
	e := newFake(t, Options{}, nil)
	p := newPusher(t, PushOptions{URL: address, Job: "sonde", Instance: "node-1"})
	p.write = e.WriteText
	p.push(t.Context())
	wantCounters(t, p, 1, map[string]float64{})
}

func TestPushToVictoriaMetrics(t *testing.T) {
	program := testenv.Tool(t, "victoria-metrics")
	address := freeAddress(t)
	startReceiver(t, address, program, "-httpListenAddr="+address, "-storageDataPath="+t.TempDir(), "-memory.allowedBytes=64MB",
		"-search.latencyOffset=0s", "-loggerLevel=ERROR") // else the newest samples are held back
	pushFake(t, "http://"+address+"/api/v1/import/prometheus")
	fetch(t, "http://"+address+"/internal/force_flush") // make what has arrived visible to queries

	query := `sonde_fake_duration_seconds_bucket{job="sonde",instance="node-1",syscall="read",le="0.00048828125"}`
	var answer struct {
		Data struct {
			Result []struct {
				Value [2]any `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	var body string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		body = fetch(t, "http://"+address+"/api/v1/query?query="+url.QueryEscape(query))
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			t.Fatal(err)
		}
		if len(answer.Data.Result) > 0 {
			break
		}
	}
	if len(answer.Data.Result) != 1 || answer.Data.Result[0].Value[1] != "45" {
		t.Errorf("VictoriaMetrics answers %s, want one sample of 45", body)
	}
}

func TestPushToPushgateway(t *testing.T) {
	program := testenv.Tool(t, "prometheus-pushgateway")
	address := freeAddress(t)
	startReceiver(t, address, program, "--web.listen-address="+address)
	pushFake(t, "http://"+address+"/metrics/job/sonde/instance/node-1")

	var got []string
	for line := range strings.Lines(fetch(t, "http://"+address+"/metrics")) {
		if strings.HasPrefix(line, "sonde_fake_calls_total") || strings.HasPrefix(line, "sonde_fake_duration_seconds_sum") {
			got = append(got, line)
		}
	}
	want := []string{
		`sonde_fake_calls_total{instance="node-1",job="sonde",outcome="error",syscall="openat"} 2` + "\n",
		`sonde_fake_calls_total{instance="node-1",job="sonde",outcome="success",syscall="read"} 1.234567e+06` + "\n",
		`sonde_fake_duration_seconds_sum{instance="node-1",job="sonde",outcome="error",syscall="openat"} 0` + "\n",
		`sonde_fake_duration_seconds_sum{instance="node-1",job="sonde",outcome="success",syscall="read"} 0.25` + "\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Pushgateway shows (-want +got):\n%s", diff)
	}
}
