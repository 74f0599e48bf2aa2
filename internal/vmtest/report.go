package vmtest

import (
	"bufio"
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// NoVerdict is the exit status of a guest that died before it said one.
const NoVerdict = 125

// A Report is what a guest said on its second serial port.
type Report struct {
	Release string // of the kernel that ran; empty if init was not reached
	Boot    time.Duration
	Elapsed time.Duration // from start to power-off, by the host's clock
	Suites  []SuiteReport
	Notes   []string
	Exit    int // 0 if every suite passed; NoVerdict
}

// A SuiteReport counts the top-level tests of one suite.
type SuiteReport struct {
	Name                    string
	Passed, Failed, Skipped int
	Status                  int // of the test binary; NoVerdict
	Skips                   []string
	Late                    []string // still running when the binary's own time was up
	Output                  string   // everything the suite printed
}

// Fault says what is wrong with the run, or nothing. A suite of which no test
// passed proves nothing and is a fault too.
func (r *Report) Fault() string {
	if r.Release == "" {
		return "the guest did not boot"
	}
	for i := range r.Suites {
		s := &r.Suites[i]
		switch {
		case s.Status == NoVerdict:
			return "the guest died in " + s.Name
		case len(s.Late) > 0:
			return s.Name + ": out of time in " + strings.Join(s.Late, ", ")
		case s.Status != 0 || s.Failed > 0:
			return fmt.Sprintf("%s: %d tests failed, status %d", s.Name, s.Failed, s.Status)
		case s.Passed == 0:
			return s.Name + ": no test passed"
		}
	}
	if len(r.Suites) == 0 || r.Exit != 0 {
		return fmt.Sprintf("the guest ended with status %d", r.Exit)
	}
	return ""
}

// Slow names the top-level tests that took at least the limit, with their times.
func (r *Report) Slow(limit time.Duration) []string {
	var slow []string
	for i := range r.Suites {
		for line := range strings.Lines(r.Suites[i].Output) {
			result, ok := strings.CutPrefix(line, "--- ") // PASS: TestA (0.01s)
			_, took, found := strings.Cut(strings.TrimRight(result, ")\n"), " (")
			if d, err := time.ParseDuration(took); ok && found && err == nil && d >= limit {
				slow = append(slow, strings.Fields(result)[1]+" "+d.String())
			}
		}
	}
	return slow
}

// Unpassed returns what the suite printed less its passed and skipped top-level
// tests, so that the end of a long log is about what failed.
func (s *SuiteReport) Unpassed() string {
	var kept, test strings.Builder
	passed := false
	flush := func() {
		if !passed {
			kept.WriteString(test.String())
		}
		test.Reset()
		passed = false
	}
	for line := range strings.Lines(s.Output) {
		if name, ok := strings.CutPrefix(line, "=== RUN   "); ok && !strings.Contains(name, "/") {
			flush()
		}
		passed = passed || strings.HasPrefix(line, "--- PASS: ") || strings.HasPrefix(line, "--- SKIP: ")
		test.WriteString(line)
	}
	passed = false // what follows the last test is the binary's own word
	flush()
	return kept.String()
}

// ParseReport reads the guest's report; see init.sh for the marker lines.
func ParseReport(output []byte) Report {
	r := Report{Exit: NoVerdict}
	lines := bufio.NewScanner(bytes.NewReader(output))
	lines.Buffer(nil, len(output)+1)
	for lines.Scan() {
		r.line(strings.TrimSuffix(lines.Text(), "\r"))
	}
	return r
}

func (r *Report) line(line string) {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "@@INIT":
		release, uptime, _ := strings.Cut(rest, " ")
		seconds, _ := strconv.ParseFloat(uptime, 64)
		r.Release, r.Boot = release, time.Duration(seconds*float64(time.Second))
	case "@@NOTE":
		r.Notes = append(r.Notes, rest)
	case "@@SUITE":
		r.Suites = append(r.Suites, SuiteReport{Name: rest, Status: NoVerdict})
	case "@@EXIT":
		r.Exit = number(rest)
	default:
		if len(r.Suites) > 0 {
			r.Suites[len(r.Suites)-1].line(line)
		}
	}
}

// line counts one line of "go test -v". Only the lines of top-level tests begin
// with their dashes at the margin.
func (s *SuiteReport) line(line string) {
	if status, ok := strings.CutPrefix(line, "@@STATUS "); ok {
		s.Status = number(status)
		return
	}
	s.Output += line + "\n"
	switch {
	case strings.HasPrefix(line, "\t\tTest") && strings.HasSuffix(s.Output, "\trunning tests:\n"+line+"\n"):
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		s.Late = append(s.Late, name)
	case strings.HasPrefix(line, "--- PASS: "):
		s.Passed++
	case strings.HasPrefix(line, "--- FAIL: "):
		s.Failed++
	case strings.HasPrefix(line, "--- SKIP: "):
		s.Skipped++
		name, _, _ := strings.Cut(strings.TrimPrefix(line, "--- SKIP: "), " ")
		s.Skips = append(s.Skips, name)
	}
}

// number reads a status; what is none is no verdict.
func number(s string) int {
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil {
		return NoVerdict
	}
	return n
}
