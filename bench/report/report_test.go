package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sonde-ebpf/sonde/bench/compare"
	"github.com/sonde-ebpf/sonde/bench/load"
)

const printed = `goos: linux
pkg: example
BenchmarkLadder/tcp/bare-2    	 100	 60000 ns/op
BenchmarkLadder/tcp/empty-2   	 100	 60500 ns/op
BenchmarkLadder/tcp/probe-2   	 100	 63000 ns/op
BenchmarkLadder/tcp/bare-2    	 100	 62000 ns/op
BenchmarkLadder/tcp/empty-2   	 100	 62500 ns/op
BenchmarkLadder/tcp/probe-2   	 100	 65000 ns/op
BenchmarkScrapeSize/1000-2    	 3	 1 ns/op	 500 sonde-allocs	 0.5 sonde-ms	 9000 client_golang-allocs	 3.0 client_golang-ms
BenchmarkScrapeSize/10000-2   	 3	 1 ns/op	 5000 sonde-allocs	 5.0 sonde-ms	 90000 client_golang-allocs	 30.0 client_golang-ms
BenchmarkState/1000-2    	 3	 4000000 ns/op	 0.5 MiB	 900 B/op	 90 allocs/op
BenchmarkMemory/process-2    	 3	 1 ns/op	 410 heap-bytes
BenchmarkCPUs/16-2    	 3	 250000 ns/op	 4.5 MiB
PASS
`

func runs() *compare.Results {
	r := &compare.Results{Date: "2026-01-02T03:04:05Z", Machine: compare.Machine{Kernel: "6.1", Processor: "a processor", CPUs: 2, Memory: 8 << 30}}
	for _, rate := range []float64{200, 100} {
		r.Runs = append(r.Runs, compare.Run{
			Build: compare.Head, Workload: "processes@" + map[float64]string{100: "100", 200: "200"}[rate],
			Load:  load.Result{Workload: load.Workload{Kind: "processes"}, Seconds: 10, Done: uint64(10 * rate), Due: uint64(10 * rate)},
			Agent: &compare.Cost{CPU: rate / 50, RSS: 32 << 20},
		})
	}
	return r
}

// The measured part is written between its lines, again and again, and nothing else.
func TestUpdate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(path, []byte("before\n\n"+begin+"\nold\n"+end+"\n\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := ReadBenchmarks(strings.NewReader(printed), "printed")
	if err != nil {
		t.Fatal(err)
	}
	var first string
	for range 2 {
		if err := Update(path, b, runs()); err != nil {
			t.Fatal(err)
		}
		page, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = string(page)
		} else if first != string(page) {
			t.Error("a second time makes another page")
		}
	}
	for _, want := range []string{
		"before\n\n" + begin, end + "\n\nafter\n",
		"on 2026-01-02: 2 × a processor, 8 GiB, Linux 6.1.",
		"| tcp | nothing | 61000 | | | |\n", "| tcp | its own probe | 64000 | 3000 | 4.9 % | 6.00 |\n",
		"| 10000 | 5.00 ms | 5000 | 30.00 ms | 90000 |",
		"| 1000 | 4.0 ms | 0.50 MiB | 90 |", "| process | 410 |", "| 16 | 4.5 MiB | 0.25 ms |",
		"| processes@200 | 200 | 4.0 % of a core | 32.0 MiB | 0 |",
	} {
		if !strings.Contains(first, want) {
			t.Errorf("no %q in:\n%s", want, first)
		}
	}
	if strings.Contains(first, "old") {
		t.Error("what was there before still is")
	}
	for _, name := range []string{"scrape-time.svg", "processor-rate.svg"} {
		if svg, err := os.ReadFile(filepath.Join(filepath.Dir(path), plots, name)); err != nil || !strings.Contains(string(svg), "</svg>") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPages(t *testing.T) {
	b, err := ReadBenchmarks(strings.NewReader(printed), "printed")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "page.md")
	update := func(page string) (string, error) {
		if err := os.WriteFile(path, []byte(page), 0o600); err != nil {
			t.Fatal(err)
		}
		err := Update(path, b, runs())
		text, _ := os.ReadFile(path)
		return string(text), err
	}
	if text, err := update("a page without a measured part\n"); err != nil || !strings.HasPrefix(text, "a page without a measured part\n\n"+begin) {
		t.Errorf("a part is appended: %v\n%s", err, text)
	}
	if text, err := update(begin + "\nno end"); err == nil || text != begin+"\nno end" {
		t.Errorf("a part without an end: %v\n%s", err, text)
	}
}

func TestNoBenchmarks(t *testing.T) {
	if _, err := ReadBenchmarks(strings.NewReader("PASS\n"), "nothing"); err == nil {
		t.Error("no benchmarks are no error")
	}
}
