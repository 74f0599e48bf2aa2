// Package digest knows the SHA-256 of files that are executed. They are read once each,
// beside the event path: the first event of a file comes without.
package digest

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Bounds.
const (
	// MaxFiles is how many files are remembered; the oldest is forgotten for a new one. An
	// entry takes about 150 bytes.
	MaxFiles = 4096
	// MaxBytes is the size of the largest file that is read.
	MaxBytes = 256 << 20
	// MaxWaiting is how many files wait to be read.
	MaxWaiting = 256
)

// File is the identity of a file's content, as the kernel has it: what is written anew has
// another time.
type File struct {
	Device    uint32
	Inode     uint64
	Bytes     uint64
	ChangedNS int64 // time of its last change, since 1970
}

// Sum is a SHA-256.
type Sum = [sha256.Size]byte

// Outcome is what became of a look-up.
type Outcome uint8

// The outcomes.
const (
	Known      Outcome = iota
	Awaited            // it is being read, or waits for it
	Refused            // too many wait
	TooLarge           // the file is larger than MaxBytes
	Unreadable         // the process had gone, had become another, or its file cannot be read

	outcomes = int(Unreadable) + 1
)

// AllOutcomes returns their names, in the order of the values.
func AllOutcomes() []string {
	return []string{"known", "awaited", "refused", "too_large", "unreadable"}
}

// Digests remembers digests. Its methods may be called concurrently.
type Digests struct {
	open    func(pid uint32) (*os.File, error)
	waiting chan request
	counts  [outcomes]atomic.Uint64

	mu    sync.Mutex
	known map[File]entry
	order []File // in which they came; a ring once it is full
	next  int    // of the ring: the oldest
}

type entry struct {
	sum     Sum
	outcome Outcome
}

type request struct {
	file File
	pid  uint32
}

// New returns an empty Digests. open opens the file that a process executes.
func New(open func(pid uint32) (*os.File, error)) *Digests {
	return &Digests{open: open, waiting: make(chan request, MaxWaiting), known: map[File]entry{}}
}

// Lookup returns the digest of a file that a process executes, if it is known, and has
// it found out if it is not. It neither waits nor reads.
func (d *Digests) Lookup(f File, pid uint32) (sum Sum, ok bool) {
	sum, outcome := d.lookup(f, pid)
	d.counts[outcome].Add(1)
	return sum, outcome == Known
}

func (d *Digests) lookup(f File, pid uint32) (Sum, Outcome) {
	if f.Bytes > MaxBytes {
		return Sum{}, TooLarge
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	e, there := d.known[f]
	if there && e.outcome != Unreadable { // which may have been for want of the process
		return e.sum, e.outcome
	}
	select {
	case d.waiting <- request{f, pid}:
	default:
		return Sum{}, Refused
	}
	if !there {
		d.forgetOldest(f)
	}
	d.known[f] = entry{outcome: Awaited}
	if there {
		return Sum{}, Unreadable
	}
	return Sum{}, Awaited
}

// forgetOldest makes room for a file. The caller holds mu.
func (d *Digests) forgetOldest(f File) {
	if len(d.order) < MaxFiles {
		d.order = append(d.order, f)
		return
	}
	delete(d.known, d.order[d.next])
	d.order[d.next] = f
	d.next = (d.next + 1) % MaxFiles
}

// Run reads files until ctx ends.
func (d *Digests) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-d.waiting:
			e := entry{outcome: Known}
			var err error
			if e.sum, err = d.read(r); err != nil {
				e.outcome = Unreadable
			}
			d.mu.Lock()
			if _, there := d.known[r.file]; there {
				d.known[r.file] = e
			}
			d.mu.Unlock()
		}
	}
}

var errAnother = errors.New("the process executes another file")

func (d *Digests) read(r request) (sum Sum, err error) {
	f, err := d.open(r.pid)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	if err := r.file.is(f); err != nil {
		return sum, err
	}
	h := sha256.New()
	if n, err := io.Copy(h, io.LimitReader(f, MaxBytes)); err != nil || uint64(n) != r.file.Bytes {
		return sum, errors.Join(err, errAnother)
	}
	h.Sum(sum[:0])
	return sum, r.file.is(f) // nobody has written to it meanwhile
}

// is compares what an open file and the kernel's have in common whatever the file system:
// overlays show devices and inodes of their own.
func (f *File) is(open *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(open.Fd()), &st); err != nil {
		return err
	}
	if st.Ctim.Nano() != f.ChangedNS || uint64(st.Size) != f.Bytes {
		return errAnother
	}
	return nil
}

// Counts are look-ups by their outcome.
type Counts [outcomes]uint64

// Counts returns how many look-ups had each outcome.
func (d *Digests) Counts() (n Counts) {
	for i := range n {
		n[i] = d.counts[i].Load()
	}
	return n
}
