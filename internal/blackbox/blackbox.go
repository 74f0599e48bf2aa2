// Package blackbox remembers how earlier runs of the sensor ended. What a pinned
// probe has seen it takes as it is; it keeps a file beside that, which outlives
// the machine's next start, and from which it tells as much as can be told where
// nothing can be pinned.
package blackbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Reasons are the ways a run can end.
var Reasons = []string{OOMKill, Signal, Crash, Clean, Error, Unknown}

// The ways a run can end.
const (
	OOMKill = "oom_kill"
	Signal  = "signal"  // other than those of a crash, and unasked
	Crash   = "crash"   // exit code 2, which the Go run time ends with, or SIGABRT, SEGV, BUS, FPE, ILL
	Clean   = "clean"   // a recorded clean stop
	Error   = "error"   // the sensor ended itself, with the exit code of the cause
	Unknown = "unknown" // no record, as after a reset of the machine
)

// End is the end of one run.
type End struct {
	Reason string    `json:"reason"`
	Time   time.Time `json:"time,omitzero"` // zero: not known
	PID    int       `json:"pid"`
	Detail string    `json:"detail"` // what else is known of it, for people
}

// Tally counts ends of one kind.
type Tally struct {
	Count uint64    `json:"count"`
	Last  time.Time `json:"last,omitzero"` // zero: never, or not known
}

// Totals are all ends there ever were.
type Totals struct {
	Ends  map[string]Tally  `json:"ends"`  // by reason
	Kills map[string]uint64 `json:"kills"` // kills of the sensor by the OOM killer, by scope: cgroup, global
}

// Seen is what the probe in the kernel has counted.
type Seen struct {
	// Generation names the maps it counts in. It is another one after the machine
	// was started anew, and in every run where nothing can be pinned.
	Generation string
	Totals     Totals
	Ends       []SeenEnd // the last ones, the oldest first
}

// SeenEnd is an end with its number, from 1, among those of the generation.
type SeenEnd struct {
	Seq uint64
	End
}

// Kills is the number of OOM kills in one cgroup, as its own file tells.
type Kills struct {
	Cgroup string `json:"cgroup"` // path and inode, so that one made anew is another one
	Count  uint64 `json:"count"`
}

// Run is the run that begins.
type Run struct {
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	Boot    string    `json:"boot"` // id of the machine's start
	// Own and Parent are the cgroup of the sensor and the one above. Where kills
	// are counted upwards (v2), the parent knows those of a cgroup that is gone.
	Own    Kills `json:"own"`
	Parent Kills `json:"parent"`
}

// record is the file.
type record struct {
	Run  Run     `json:"run"`
	Stop *stop   `json:"stop,omitempty"` // nil while it runs, and where it could not say
	Mark marker  `json:"kernel"`
	Base *Totals `json:"base"` // what the kernel's counts of Mark do not hold
	Last *End    `json:"last,omitempty"`
}

// stop is what a run says of its own end.
type stop struct {
	Time time.Time `json:"time"`
	Code int       `json:"code"`
}

// marker is how far the kernel's counts have been taken over.
type marker struct {
	Generation string `json:"generation"`
	Totals     Totals `json:"totals"`
	Told       uint64 `json:"told"` // number of the last end that was told
}

// Box is the black box of one run. It is safe for concurrent use.
type Box struct {
	path, crash string

	mu   sync.Mutex
	file record
}

// Files in the state directory.
const (
	fileName = "blackbox.json"
	// CrashFile gets what the Go run time says of a crash; LastCrashFile is that of
	// the last one.
	CrashFile     = "crash.log"
	LastCrashFile = "crash-last.log"
)

// Files are all files that a black box may leave.
var Files = []string{fileName, fileName + ".new", CrashFile, LastCrashFile}

// Open makes the black box of a run whose files are in dir; nothing is read yet.
func Open(dir string) *Box {
	return &Box{path: filepath.Join(dir, fileName), crash: filepath.Join(dir, CrashFile)}
}

// Begin enters a new run: it judges how the one before ended if the kernel did
// not see it, and returns the ends that nobody has been told of yet, the oldest
// first. An error says what of it could not be read or kept; the rest holds.
func (b *Box) Begin(run Run, seen Seen) (untold []End, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	last, readErr := read(b.path)
	b.file = record{Run: run, Mark: last.Mark, Base: last.Base, Last: last.Last}
	if b.file.Base == nil {
		b.file.Base = newTotals()
	}
	known := seen.Generation == last.Mark.Generation
	if !known { // those counts are gone: they are ours to remember now
		b.file.Base.add(last.Mark.Totals)
		b.file.Mark.Told = 0
	}
	if !known && last.Run.PID != 0 {
		end := judge(last, run, b.crash)
		b.file.Base.end(end)
		untold = append(untold, end)
	}
	for _, end := range seen.Ends {
		if end.Seq > b.file.Mark.Told {
			untold = append(untold, end.End)
			b.file.Mark.Told = end.Seq
		}
	}
	if n := len(untold); n > 0 {
		b.file.Last = &untold[n-1]
	}
	b.file.Mark.Generation, b.file.Mark.Totals = seen.Generation, seen.Totals
	return untold, errors.Join(readErr, keepCrash(b.crash), b.write())
}

// End records how this run ends by its own will.
func (b *Box) End(now time.Time, code int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.file.Stop = &stop{now, code}
	return b.write()
}

// Last returns the end of the run before this one, nil if none is known.
func (b *Box) Last() *End {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.file.Last
}

// Totals returns all ends of earlier runs.
func (b *Box) Totals() Totals {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := newTotals()
	if b.file.Base != nil {
		all.add(*b.file.Base)
	}
	all.add(b.file.Mark.Totals)
	return *all
}

func newTotals() *Totals { return &Totals{Ends: map[string]Tally{}, Kills: map[string]uint64{}} }

func (t *Totals) add(other Totals) {
	for reason, n := range other.Ends {
		sum := t.Ends[reason]
		sum.Count += n.Count
		if n.Last.After(sum.Last) {
			sum.Last = n.Last
		}
		t.Ends[reason] = sum
	}
	for scope, n := range other.Kills {
		t.Kills[scope] += n
	}
}

func (t *Totals) end(e End) {
	t.add(Totals{Ends: map[string]Tally{e.Reason: {1, e.Time}}})
	if e.Reason == OOMKill {
		t.Kills["cgroup"]++ // only kills in cgroups are known here
	}
}

func read(path string) (r record, err error) {
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r, nil
	case err != nil:
		return r, fmt.Errorf("read black box: %w", err)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return record{}, fmt.Errorf("decode black box %s: %w", path, err)
	}
	return r, nil
}

// write replaces the file as a whole, and does not return before it would
// survive the loss of power.
func (b *Box) write() error {
	data, err := json.Marshal(b.file)
	if err != nil {
		return fmt.Errorf("encode black box: %w", err)
	}
	temp := b.path + ".new"
	if err := writeSynced(temp, append(data, '\n')); err != nil {
		return errors.Join(fmt.Errorf("write black box: %w", err), os.Remove(temp))
	}
	if err := os.Rename(temp, b.path); err != nil {
		return fmt.Errorf("write black box: %w", err)
	}
	return nil
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}
