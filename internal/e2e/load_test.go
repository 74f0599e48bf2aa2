package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// The tests of this file have a short form, which a busy machine passes too, and a
// full one, TestSoak…, which holds the sensor to its figures and wants two cores for
// itself.

// The figures, of connections that are open and that come and go.
const (
	maxSideBytes   = 400 // of memory for one side of a connection, all that the cgroup is charged
	maxListingTime = time.Second
	churnRate      = 20_000 // connections a second
)

// soak skips the full form unless it was asked for.
func soak(t *testing.T) {
	t.Helper()
	if os.Getenv("SONDE_SOAK") == "" {
		t.Skip("takes minutes and the whole machine: make soak")
	}
}

// load is a running testdata/load.c.
type load struct {
	in  io.Closer
	out *bufio.Reader
	cmd *exec.Cmd
}

func startLoad(t *testing.T, args ...string) *load {
	t.Helper()
	source, err := os.ReadFile("testdata/load.c")
	if err != nil {
		t.Fatal(err)
	}
	path := compiled(t, "load.c", string(source), "gcc", "-O2", "-Wall")
	l := &load{cmd: exec.Command(path, args...)}
	l.cmd.Stderr = os.Stderr
	if l.in, err = l.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := l.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	l.out = bufio.NewReader(out)
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.end)
	return l
}

func (l *load) end() { l.in.Close(); l.cmd.Wait() }

// says waits for its next line.
func (l *load) says(t *testing.T) string {
	t.Helper()
	line, err := l.out.ReadString('\n')
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	return strings.TrimSpace(line)
}

// charged is what a memory cgroup is charged for, in bytes.
func charged(t *testing.T, cgroup string) float64 {
	t.Helper()
	for _, name := range []string{"memory.usage_in_bytes", "memory.current"} {
		text, err := os.ReadFile(filepath.Join(cgroup, name))
		if err != nil {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	t.Fatalf("%s does not say what it is charged for", cgroup)
	return 0
}

// collectGarbage has the sensor collect, and waits for what it gives back.
func (a *agent) collectGarbage(t *testing.T) {
	t.Helper()
	for range 5 {
		a.list(t, "/debug/pprof/heap?gc=1")
		time.Sleep(200 * time.Millisecond)
	}
}

// list gets a route and returns the body and how long that took.
func (a *agent) list(t *testing.T, route string) ([]byte, time.Duration) {
	t.Helper()
	began := time.Now()
	res, err := http.Get(a.introspection(t) + route)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v", route, res.Status, err)
	}
	return body, time.Since(began)
}

// ofLoad are the labels of the load's connections, and of no others here.
var ofLoad = []string{"protocol=tcp", "peer=public"}

// cost is what it takes to watch connections that stay open.
type cost struct {
	side        float64 // bytes for one side of a connection
	listing     time.Duration
	quiet, busy float64 // delay of events, quantile 0.99 in seconds, without and with listings
}

// watchOpen has the sensor watch n open connections.
func watchOpen(t *testing.T, n int) (c cost) {
	t.Helper()
	cgroup := testenv.MemoryCgroup(t, 2<<30)
	dir, pins := directories(t)
	a := launchIn(t, cgroup, dir, pins, "--introspect.listen-address=127.0.0.1:0")
	a.waitReady(t)
	a.collectGarbage(t)
	empty, sides := charged(t, cgroup), 2*float64(n)

	l := startLoad(t, "hold", strconv.Itoa(n))
	if got, want := l.says(t), fmt.Sprint("held ", n); got != want {
		t.Fatalf("load says %q, want %q", got, want)
	}
	waitUntil(t, func() error {
		if got := sum(a.families(t), "sonde_state_entries", "table=connection"); got < sides {
			return fmt.Errorf("%v of %v sides are known", got, sides)
		}
		return nil
	})
	a.collectGarbage(t)
	c.side = (charged(t, cgroup) - empty) / sides
	c.quiet, c.busy, c.listing = a.listings(t, sides)

	l.end()
	waitUntil(t, func() error { return a.evenlyClosed(t, sides) })
	t.Logf("%d connections: %.0f bytes a side, listed in %v; events are late by at most %v s (p99), with listings %v s", n, c.side, c.listing, c.quiet, c.busy)
	return c
}

// listings lists all connections again and again while others come and go.
func (a *agent) listings(t *testing.T, sides float64) (quiet, busy float64, best time.Duration) {
	t.Helper()
	const rate, seconds = 500, 3
	l := startLoad(t, "churn", strconv.Itoa(rate), strconv.Itoa(rate*seconds))
	first := a.families(t)
	time.Sleep(seconds / 3 * time.Second)
	second := a.families(t)
	best = time.Hour
	for began := time.Now(); time.Since(began) < seconds/3*time.Second; {
		body, took := a.list(t, "/state/network/connection?normalize=false")
		if rows := bytes.Count(body, []byte(`"active":`)); rows < int(sides) {
			t.Errorf("%d connections in the answer, want %v", rows, sides)
		}
		best = min(best, took)
	}
	third := a.families(t)
	l.says(t)
	return lateness(first, second), lateness(second, third), best
}

// evenlyClosed asks that at least so many sides were opened, and all of them closed.
func (a *agent) evenlyClosed(t *testing.T, sides float64) error {
	t.Helper()
	f := a.families(t)
	opened, closed := sum(f, "sonde_connections_opened_total", ofLoad...), sum(f, "sonde_connections_closed_total", ofLoad...)
	if opened < sides || opened != closed {
		return fmt.Errorf("%v of %v sides were opened, %v closed", opened, sides, closed)
	}
	return nil
}

// lateness returns the bound of the bucket in which the quantile 0.99 lies of how late
// events left the ring between two scrapes.
func lateness(before, after map[string]*dto.MetricFamily) float64 {
	counts := func(families map[string]*dto.MetricFamily) map[float64]float64 {
		all := map[float64]float64{}
		for _, m := range families["sonde_event_delay_seconds"].GetMetric() {
			if has(m, []string{"stage=ring"}) {
				for _, b := range m.GetHistogram().GetBucket() {
					all[b.GetUpperBound()] += float64(b.GetCumulativeCount())
				}
			}
		}
		return all
	}
	old, now := counts(before), counts(after)
	total, best := now[math.Inf(1)]-old[math.Inf(1)], math.Inf(1)
	for bound, n := range now {
		if n-old[bound] >= 0.99*total {
			best = min(best, bound)
		}
	}
	return best
}

// What open connections cost in memory, all in all.
func TestManyConnections(t *testing.T) {
	if c := watchOpen(t, 10_000); c.side > maxSideBytes {
		t.Errorf("%.0f bytes a side, more than %d", c.side, maxSideBytes)
	}
}

// A hundred thousand of them, and how long a list of all takes and delays.
func TestSoakManyConnections(t *testing.T) {
	soak(t)
	c := watchOpen(t, 100_000)
	if c.side > maxSideBytes {
		t.Errorf("%.0f bytes a side, more than %d", c.side, maxSideBytes)
	}
	if c.listing > maxListingTime {
		t.Errorf("all connections are listed in %v, more than %v", c.listing, maxListingTime)
	}
	if c.busy > max(4*c.quiet, 0.016) {
		t.Errorf("events are late by up to %v s during listings, %v s otherwise", c.busy, c.quiet)
	}
}

// churn has the sensor watch connections come and go, and returns how many a second
// did and how many events were lost: lost ones are in the ledger, and none is missing
// in the counts.
func churn(t *testing.T, rate, n int) (reached, lost float64) {
	t.Helper()
	a := startAgent(t)
	l := startLoad(t, "churn", strconv.Itoa(rate), strconv.Itoa(n))
	var made, ms float64
	if _, err := fmt.Sscanf(l.says(t), "churned %f in %f ms", &made, &ms); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, func() error { return a.evenlyClosed(t, 2*made) })
	waitUntil(t, func() error {
		if c := a.counts(t); c["attempted"] != c["submitted"]+c["dropped"] || c["read"] != c["submitted"] {
			return fmt.Errorf("the ledger does not close: %v", c)
		}
		return nil
	})
	c := a.counts(t)
	reached = made / ms * 1000
	t.Logf("%.0f connections opened and closed at %.0f a second; %.0f events, %.0f lost", made, reached, c["attempted"], c["dropped"])
	return reached, c["dropped"]
}

// Connections that come and go fast are all counted.
func TestChurn(t *testing.T) { churn(t, churnRate, churnRate/2) }

// A minute of it loses no event.
func TestSoakChurn(t *testing.T) {
	soak(t)
	reached, lost := churn(t, churnRate*21/20, 60*churnRate)
	if lost != 0 || reached < churnRate {
		t.Errorf("%.0f connections a second, %.0f events lost; want %d and none", reached, lost, churnRate)
	}
}
