package compare

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/perf/benchmath"

	"github.com/sonde-ebpf/sonde/bench/load"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// made makes results of a base and a head, with noise, and with what the head takes more.
func made(seed uint64, runs int, cpu, bytes float64) *Results {
	random := rand.New(rand.NewPCG(seed, 1))
	r := &Results{Date: "2026-01-02T03:04:05Z", Machine: Machine{Kernel: "6.1", Processor: "a processor", CPUs: 2}}
	for round := range runs {
		for _, build := range []string{Base, Head} {
			c := Cost{CPU: 8 + random.NormFloat64()*0.8, RSS: 45<<20 + random.NormFloat64()*(2<<20)}
			if build == Head {
				c.CPU, c.RSS = c.CPU+cpu, c.RSS+bytes
			}
			c.Peak = c.RSS + 1<<20
			r.Runs = append(r.Runs, Run{
				Build: build, Workload: "processes", Round: round, Agent: &c,
				Load: load.Result{Workload: load.Workload{Kind: "processes"}, Due: 400, Done: 400, Median: 1e-3 * (1 + 0.02*random.NormFloat64())},
			})
		}
	}
	return r
}

func regressions(t *testing.T, r *Results) (names []string) {
	t.Helper()
	all, err := Compare(r, Base, Head)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range Regressions(all) {
		names = append(names, d.Resource.Name)
	}
	return names
}

// The same build is never found to be worse than itself, one that takes more always is,
// and one that takes less never.
func TestVerdicts(t *testing.T) {
	for seed := range uint64(10) {
		for _, c := range []struct {
			cpu, memory float64
			want        []string
		}{
			{0, 0, nil},
			{5, 0, []string{"processor"}},
			{0, 20 << 20, []string{"resident memory", "peak memory"}},
			{-5, -20 << 20, nil},
		} {
			if diff := cmp.Diff(c.want, regressions(t, made(seed, 10, c.cpu, c.memory))); diff != "" {
				t.Errorf("seed %d, %+v: %s", seed, c, diff)
			}
		}
	}
}

// What is below the declared difference is not spoken of, however sure it is.
func TestThresholds(t *testing.T) {
	judge := func(name string, more float64, want Verdict) {
		t.Helper()
		for _, resource := range Resources {
			if resource.Name != name {
				continue
			}
			resource.Scale = 1
			a, b := []float64{100, 100.01, 100.02, 100.03, 100.04}, make([]float64, 5)
			for i := range b {
				b[i] = a[i] + more
			}
			if got := differ("load", resource, a, b).Verdict; got != want {
				t.Errorf("%s and %v: %s, want %s", name, more, got, want)
			}
		}
	}
	judge("processor", 0.9, Same)
	judge("processor", 1.1, Regression)
	judge("processor", -1.1, Better)
	judge("resident memory", 9.9, Same)
	judge("resident memory", 10.1, Regression)
	judge("time of an operation", 4.9, Same)
	judge("time of an operation", 5.2, Regression)
	judge("events lost", 1, Regression)
	judge("events lost", 0, Same)
}

// The p-values are the known ones: t = 4.32 with 7.1 degrees of freedom, and 2 of the 252
// orders in which ten values can come.
func TestPValues(t *testing.T) {
	a, b := []float64{1, 2, 3, 4, 5}, []float64{6, 7, 8, 9, 12}
	for name, c := range map[string]struct {
		assume benchmath.Assumption
		want   float64
	}{
		"Welch":        {benchmath.AssumeNormal, 0.00334},
		"Mann-Whitney": {benchmath.AssumeNothing, 0.00794},
	} {
		if got := pValue(c.assume, a, b); math.Abs(got-c.want) > 2e-4 {
			t.Errorf("%s: p = %.5f, want %.5f", name, got, c.want)
		}
	}
	if got := pValue(benchmath.AssumeNormal, []float64{0, 0}, []float64{0, 0}); got != 1 {
		t.Errorf("nothing twice: p = %v", got)
	}
}

func TestInput(t *testing.T) {
	behind := made(1, 5, 0, 0)
	behind.Runs[3].Beside = []load.Result{{Due: 100, Done: 94}}
	for name, r := range map[string]*Results{"behind": behind, "few": made(1, minRuns-1, 0, 0), "other builds": {Runs: []Run{{Build: "x", Workload: "w"}}}} {
		if _, err := Compare(r, Base, Head); !errors.Is(err, ErrInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []string{"", "{}", "[]", `{"runs":[]}`, `{"runs":[{}],"else":1}`} {
		if _, err := Read(strings.NewReader(text)); !errors.Is(err, ErrInput) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := ReadTrend(strings.NewReader("x")); !errors.Is(err, ErrInput) {
		t.Errorf("trend of garbage: %v", err)
	}
}

// The trend keeps the ten latest, and shows those of such a machine.
func TestTrend(t *testing.T) {
	trend, err := ReadTrend(strings.NewReader(""))
	if err != nil || trend != nil {
		t.Fatalf("no trend: %v, %v", trend, err)
	}
	for i := range Kept + 2 {
		r := made(uint64(i), minRuns, 0, 0)
		r.Revision = fmt.Sprintf("revision%02d", i)
		trend = Extend(trend, r)
	}
	trend[4].Machine.Processor = "another"
	var kept bytes.Buffer
	if err := WriteTrend(&kept, trend); err != nil {
		t.Fatal(err)
	}
	if trend, err = ReadTrend(&kept); err != nil || len(trend) != Kept {
		t.Fatalf("%d results kept, %v", len(trend), err)
	}
	r := made(99, 10, 5, 0)
	all, err := Compare(r, Base, Head)
	if err != nil {
		t.Fatal(err)
	}
	var comment bytes.Buffer
	if err := Markdown(&comment, r, all, trend); err != nil {
		t.Fatal(err)
	}
	golden(t, "trend.md", comment.Bytes())
}

// golden compares what was written with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}
