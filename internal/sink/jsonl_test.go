package sink

import (
	"bytes"
	"compress/gzip"
	encoding "encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/testenv"
)

var anywhere = Place{Stdout: io.Discard, Dir: "/"}

// exits makes n events.
func exits(n int) []event.Event {
	batch := make([]event.Event, n)
	for i := range batch {
		batch[i] = event.Event{Point: event.ProcessExit, TimeNS: uint64(i), Process: event.Process{PID: 11, TID: 11, StartNS: 3e9}, Subject: known()}
	}
	return batch
}

// tally counts what a sink gives up.
type tally [event.Losses]int

func (l *tally) lose(_ *event.Event, loss event.Loss) { l[loss]++ }

func (l *tally) total() (n int) {
	for _, k := range l {
		n += k
	}
	return n
}

func open(t *testing.T, config map[string]any) *JSONLines {
	t.Helper()
	s, err := NewJSONLines(config, anywhere, small{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// linesIn counts the lines of a file, all of which must be JSON.
func linesIn(t *testing.T, name string) (n int) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(name, ".gz") {
		z, err := gzip.NewReader(bytes.NewReader(text))
		if err == nil {
			text, err = io.ReadAll(z)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for line := range bytes.Lines(text) {
		if n++; !encoding.Valid(line) || !bytes.HasSuffix(line, []byte("\n")) {
			t.Fatalf("%s: line %d is torn: %.80q", name, n, line)
		}
	}
	return n
}

func TestFileIsPutAside(t *testing.T) {
	for _, compressed := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "events.json")
		s := open(t, map[string]any{"path": path, "max_size": "8KiB", "max_files": 3, "compress": compressed})
		var lost tally
		const batches, each = 40, 10
		for range batches {
			s.Deliver(exits(each), lost.lose)
		}
		if err := s.Close(); err != nil || lost.total() > 0 {
			t.Fatalf("%v, lost %v", err, lost)
		}
		all, err := filepath.Glob(filepath.Join(filepath.Dir(path), "events*"))
		if err != nil || len(all) != 1+3 {
			t.Fatalf("%v: %v", all, err)
		}
		for _, name := range all {
			info, err := os.Stat(name)
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
			}
			aside := name != path
			if n := linesIn(t, name); n == 0 || n%each != 0 || strings.HasSuffix(name, ".gz") != (aside && compressed) {
				t.Errorf("%s has %d lines", name, n)
			}
		}
	}
}

// What was in the file stays, and is counted into its size.
func TestFileIsContinued(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.json")
	for range 3 {
		s := open(t, map[string]any{"path": path, "mode": "0640", "fsync": "batch"})
		s.Deliver(exits(5), new(tally).lose)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if n := linesIn(t, path); n != 15 || err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%d lines, mode %v, %v", n, info.Mode(), err)
	}
}

// A full disk costs the events of that time, by name, and no line of the others.
func TestFullDisk(t *testing.T) {
	testenv.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		testenv.Skip(t, "needs to mount a tmpfs: "+err.Error())
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 32<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "events.json")
	s := open(t, map[string]any{"path": path, "max_size": "1MiB"})
	var lost tally
	sent := 0
	for lost[event.LossDisk] == 0 {
		if sent += 10; sent > 10_000 {
			t.Fatal("the disk never filled")
		}
		s.Deliver(exits(10), lost.lose)
	}
	if n := linesIn(t, path); n != sent-lost.total() || n == 0 {
		t.Errorf("%d sent, %v lost, %d in the file", sent, lost, n)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	before := lost.total()
	s.Deliver(exits(10), lost.lose)
	sent += 10
	if n := linesIn(t, path); lost.total() != before || n != sent-before {
		t.Errorf("after the disk had room again: %d sent, %v lost, %d in the file", sent, lost, n)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// A pipe that nobody reads is refused, one whose reader stands still costs the events of
// that time, and the line that was torn ends where it is.
func TestPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := NewJSONLines(map[string]any{"path": path}, anywhere, small{}); err == nil {
		s.Close()
		t.Fatal("a pipe without a reader is accepted")
	}
	reader, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	s := open(t, map[string]any{"path": path})
	const batch = 200
	var lost tally
	sent := 0
	for lost.total() == 0 {
		s.Deliver(exits(batch), lost.lose)
		sent += batch
	}
	taken := make([]byte, 1<<20)
	n, err := reader.Read(taken)
	if err != nil || lost[event.LossPeer] != batch {
		t.Fatalf("lost %v, read %d bytes: %v", lost, n, err)
	}
	s.Deliver(exits(1), lost.lose)
	if err := s.Close(); err != nil || lost.total() != batch {
		t.Errorf("lost %v after the reader went on: %v", lost, err)
	}
	more, err := reader.Read(taken[n:])
	if err != nil {
		t.Fatal(err)
	}
	whole, torn := 0, 0
	for line := range bytes.Lines(taken[:n+more]) {
		if encoding.Valid(line) {
			whole++
		} else {
			torn++
		}
	}
	if delivered := sent - batch + 1; whole < delivered || whole >= delivered+batch || torn > 1 {
		t.Errorf("%d lines of %d that were delivered, %d torn", whole, delivered, torn)
	}
}

// flaky is an output that takes what it is given every other time.
type flaky struct {
	bytes.Buffer
	fails bool
}

func (f *flaky) Write(b []byte) (int, error) {
	if f.fails = !f.fails; f.fails {
		return 0, unix.ENOSPC
	}
	return f.Buffer.Write(b)
}
func (*flaky) Sync() error  { return nil }
func (*flaky) Close() error { return nil }

// That events are missing is told once, where a line can be written.
func TestMissingIsTold(t *testing.T) {
	s, out := open(t, map[string]any{"path": "stdout"}), &flaky{}
	s.out = out
	var lost tally
	for range 2 {
		s.Lost(3)
		s.Deliver(exits(1), lost.lose) // fails, then not
	}
	for range 2 {
		s.Deliver(exits(1), lost.lose)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], `"number_of_dropped_process_events":"6"`) || lost[event.LossDisk] != 2 {
		t.Errorf("lost %v, written:\n%s", lost, out)
	}
}

// A file that cannot be begun anew is tried again with every batch.
func TestDirectoryThatGoes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "events.json")
	s := open(t, map[string]any{"path": path, "max_size": "4KiB"})
	var lost tally
	s.Deliver(exits(10), lost.lose)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	s.Deliver(exits(20), lost.lose) // too much for the file: it is to be put aside
	if lost[event.LossWrite] != 20 {
		t.Errorf("lost %v", lost)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s.Deliver(exits(20), lost.lose)
	if n := linesIn(t, path); n != 20 || lost.total() != 20 {
		t.Errorf("%d lines, lost %v", n, lost)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestConfigFaults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.json")
	for name, config := range map[string]map[string]any{
		"no path":       {},
		"relative path": {"path": "events.json"},
		"unknown key":   {"path": path, "colour": "red"},
		"small":         {"path": path, "max_size": "4095"},
		"size":          {"path": path, "max_size": "much"},
		"files":         {"path": path, "max_files": maxFiles + 1},
		"mode":          {"path": path, "mode": "rw"},
		"fsync":         {"path": path, "fsync": "sometimes"},
		"often":         {"path": path, "rotate_every": "1ms"},
		"no directory":  {"path": filepath.Join(path, "x", "events.json")},
		"filter":        {"path": path, "deny_list": []any{map[string]any{"binary_regex": []any{"("}}}},
	} {
		if s, err := NewJSONLines(config, anywhere, small{}); err == nil {
			t.Errorf("%s: accepted", name)
			s.Close()
		}
	}
}

// Nobody makes the sensor write outside of the directory for events.
func TestFilesStayInTheirPlace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	for path, fine := range map[string]bool{
		dir + "/events.json": true, dir + "/../events.json": false, dir: false, dir + "x/events.json": false, "/etc/passwd": false, "events.json": false, "": false,
	} {
		s, err := NewJSONLines(map[string]any{"path": path}, Place{Dir: dir}, small{})
		if err == nil {
			s.Close()
		}
		if (err == nil) != fine {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func TestStdout(t *testing.T) {
	var out bytes.Buffer
	s, err := NewJSONLines(map[string]any{"path": "stdout"}, Place{Stdout: &out}, small{})
	if err != nil {
		t.Fatal(err)
	}
	s.Deliver(exits(3), new(tally).lose)
	if n := bytes.Count(out.Bytes(), []byte("\n")); n != 3 || s.Close() != nil {
		t.Errorf("%d lines", n)
	}
}

func BenchmarkJSONLines(b *testing.B) {
	s, err := NewJSONLines(map[string]any{"path": "/dev/null"}, anywhere, small{})
	if err != nil {
		b.Fatal(err)
	}
	batch := exits(256)
	b.ReportAllocs()
	for b.Loop() {
		s.Deliver(batch, func(*event.Event, event.Loss) {})
	}
	b.ReportMetric(float64(b.Elapsed())/float64(256*b.N), "ns/event")
}
