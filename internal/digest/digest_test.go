package digest

import (
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// written is a file, and the identity that it has.
func written(t *testing.T, text string) (path string, f File) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return path, File{Device: 1, Inode: st.Ino, Bytes: uint64(st.Size), ChangedNS: st.Ctim.Nano()}
}

// settled waits until a file is awaited no more and returns what is said of it then.
func settled(t *testing.T, d *Digests, f File) (Sum, Outcome) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		d.mu.Lock()
		e := d.known[f]
		d.mu.Unlock()
		if e.outcome != Awaited {
			return e.sum, e.outcome
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing was read")
		}
	}
}

func TestDigestOfAFile(t *testing.T) {
	path, f := written(t, "#!/bin/sh\n")
	opened := 0
	d := New(func(pid uint32) (*os.File, error) {
		if opened++; opened == 1 || pid != 7 {
			return nil, errors.New("no such process")
		}
		return os.Open(path)
	})
	go d.Run(t.Context())
	if _, ok := d.Lookup(f, 7); ok {
		t.Error("it was known before it was read")
	}
	if _, outcome := settled(t, d, f); outcome != Unreadable {
		t.Errorf("outcome %d of a process that has gone", outcome)
	}
	d.Lookup(f, 7) // tries again
	if sum, outcome := settled(t, d, f); outcome != Known || sum != sha256.Sum256([]byte("#!/bin/sh\n")) {
		t.Errorf("outcome %d, %x", outcome, sum)
	}
	if _, ok := d.Lookup(f, 8); !ok || opened != 2 {
		t.Errorf("known: %v, opened %d times", ok, opened)
	}
	if n := d.Counts(); n != (Counts{Known: 1, Awaited: 1, Unreadable: 1}) {
		t.Errorf("counts %v", n)
	}
	if n := testing.AllocsPerRun(100, func() { d.Lookup(f, 7) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// What the process executes by now is another file: that one's digest is nobody's.
func TestAnotherFile(t *testing.T) {
	path, f := written(t, "one")
	for _, other := range []File{{Inode: f.Inode, Bytes: f.Bytes, ChangedNS: f.ChangedNS - 1}, {Inode: f.Inode, Bytes: f.Bytes + 1, ChangedNS: f.ChangedNS}} {
		d := New(func(uint32) (*os.File, error) { return os.Open(path) })
		go d.Run(t.Context())
		d.Lookup(other, 7)
		if _, outcome := settled(t, d, other); outcome != Unreadable {
			t.Errorf("outcome %d", outcome)
		}
	}
}

func TestBounds(t *testing.T) {
	d := New(func(uint32) (*os.File, error) { return nil, os.ErrNotExist }) // nobody reads
	for i := range uint64(MaxWaiting + 3) {
		d.Lookup(File{Inode: i}, 7)
	}
	d.Lookup(File{Bytes: MaxBytes}, 7)
	d.Lookup(File{Bytes: MaxBytes + 1}, 7)
	if n := d.Counts(); n != (Counts{Awaited: MaxWaiting, Refused: 4, TooLarge: 1}) {
		t.Errorf("counts %v", n)
	}
	for i := range uint64(2 * MaxFiles) {
		<-d.waiting
		d.Lookup(File{Inode: 1000 + i}, 7)
	}
	if len(d.known) != MaxFiles {
		t.Errorf("%d files are remembered, bound %d", len(d.known), MaxFiles)
	}
	if _, there := d.known[File{Inode: 1000 + 2*MaxFiles - 1}]; !there {
		t.Error("the newest was forgotten")
	}
}
