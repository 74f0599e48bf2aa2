package sink

import (
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// fileOptions say how a file is kept.
type fileOptions struct {
	path     string
	maxSize  int64
	maxFiles int
	every    time.Duration
	compress bool
	mode     uint32
	sync     time.Duration // between two; 0 after each batch, negative never
}

// Bounds of a file's configuration.
const (
	minFileSize = 4 << 10
	maxFiles    = 1000
)

func (o *fileOptions) validate() error {
	var faults []error
	if o.maxSize < minFileSize {
		faults = append(faults, fmt.Errorf("max_size %d: write at least %d", o.maxSize, minFileSize))
	}
	if o.maxFiles < 0 || o.maxFiles > maxFiles {
		faults = append(faults, fmt.Errorf("max_files %d: write 0 to %d", o.maxFiles, maxFiles))
	}
	if o.every < 0 || o.every > 0 && o.every < time.Second {
		faults = append(faults, fmt.Errorf("rotate_every %v: write at least 1s", o.every))
	}
	return errors.Join(faults...)
}

// file is a file of whole lines. When it is large or old enough it is put aside
// under a name with the time, and begun anew. A write that fails in the middle is
// taken back, so that a disk that was full for a while leaves no torn line. It is
// for one goroutine.
type file struct {
	fileOptions
	f      *os.File
	size   int64
	began  time.Time
	synced time.Time
	torn   bool      // the last write could not be taken back
	pipe   bool      // it is no regular file: nothing to put aside, and somebody has to read it
	until  time.Time // when the patience with whoever reads a pipe ends, for this batch
	aside  sync.WaitGroup
}

func openFile(o fileOptions) (*file, error) {
	f := &file{fileOptions: o}
	return f, f.open()
}

func (f *file) open() error {
	opened, err := os.OpenFile(f.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NONBLOCK, os.FileMode(f.mode))
	if errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("%w: nobody reads this pipe", err)
	}
	if err != nil {
		return err
	}
	info, err := opened.Stat()
	if err == nil && info.Mode().IsRegular() {
		err = opened.Chmod(os.FileMode(f.mode)) // an older file, or one that umask had narrowed
	}
	if err != nil {
		return errors.Join(err, opened.Close())
	}
	f.f, f.size, f.began = opened, info.Size(), time.Now()
	if f.pipe = !info.Mode().IsRegular(); f.pipe {
		f.maxSize, f.every = 1<<62, 0
	}
	return nil
}

// PipePatience is how long a pipe is waited for whose reader takes nothing, for one
// batch. What was taken of it until then may be read besides being lost.
const PipePatience = time.Second

// Write appends whole lines, all of b or none.
func (f *file) Write(b []byte) (int, error) {
	if err := f.ready(int64(len(b))); err != nil {
		return 0, err
	}
	n, err := f.f.Write(b)
	if err == nil {
		f.size += int64(n)
		return n, nil
	}
	if n > 0 && f.f.Truncate(f.size) != nil {
		f.torn, f.size = true, f.size+int64(n)
	}
	return 0, err
}

// ready makes the file one to which n bytes may be appended.
func (f *file) ready(n int64) error {
	if f.f == nil { // it could not be opened anew
		if err := f.open(); err != nil {
			return err
		}
	}
	full := f.size > 0 && f.size+n > f.maxSize
	old := f.every > 0 && f.size > 0 && time.Since(f.began) >= f.every
	if full || old {
		if err := f.rotate(); err != nil {
			return err
		}
	}
	if f.pipe && f.until.IsZero() {
		f.until = time.Now().Add(PipePatience)
		_ = f.f.SetWriteDeadline(f.until) // a device may have none
	}
	if !f.torn {
		return nil
	}
	_, err := f.f.WriteString("\n") // the torn line ends here
	if err == nil {
		f.torn, f.size = false, f.size+1
	}
	return err
}

// Sync ends a batch, and makes its lines last as often as that is wanted.
func (f *file) Sync() error {
	f.until = time.Time{}
	if f.f == nil || f.sync < 0 || time.Since(f.synced) < f.sync {
		return nil
	}
	f.synced = time.Now()
	err := f.f.Sync()
	if errors.Is(err, unix.EINVAL) { // a pipe
		return nil
	}
	return err
}

// Close closes the file and waits for what is being compressed.
func (f *file) Close() error {
	defer f.aside.Wait()
	if f.f == nil {
		return nil
	}
	return f.f.Close()
}

// rotate puts the file aside and begins anew.
func (f *file) rotate() error {
	aside := f.asideName(time.Now())
	err := os.Rename(f.path, aside)
	gone := errors.Is(err, fs.ErrNotExist) // somebody else has put it aside
	if err != nil && !gone {
		return err
	}
	err = f.f.Close()
	f.f, f.torn = nil, false
	if !gone {
		f.aside.Wait() // one at a time
		f.aside.Go(func() { f.tidy(aside) })
	}
	return cmp.Or(err, f.open())
}

// tidy compresses what was put aside, and removes the oldest of it.
func (f *file) tidy(aside string) {
	if f.compress {
		_ = compress(aside, f.mode) // what cannot be compressed stays as it is
	}
	f.prune()
}

// asideName is the name under which a file is put aside: events-<time>.json.
func (f *file) asideName(now time.Time) string {
	ext := filepath.Ext(f.path)
	return strings.TrimSuffix(f.path, ext) + "-" + now.UTC().Format("2006-01-02T15-04-05.000000000") + ext
}

// prune removes the oldest of what is put aside.
func (f *file) prune() {
	ext := filepath.Ext(f.path)
	all, err := filepath.Glob(globQuote(strings.TrimSuffix(f.path, ext)) + "-[0-9][0-9][0-9][0-9]-*" + globQuote(ext) + "*")
	if err != nil || len(all) <= f.maxFiles {
		return
	}
	slices.Sort(all)
	for _, name := range all[:len(all)-f.maxFiles] {
		_ = os.Remove(name) // tried again at the next rotation
	}
}

// globQuote takes their meaning from the characters that have one in a pattern.
func globQuote(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

// compress replaces a file by its compressed form.
func compress(name string, mode uint32) (err error) {
	in, err := os.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(name+".gz", os.O_WRONLY|os.O_CREATE|os.O_EXCL, os.FileMode(mode))
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			_ = os.Remove(name + ".gz")
			return
		}
		err = os.Remove(name)
	}()
	z := gzip.NewWriter(out)
	if _, err := io.Copy(z, in); err != nil {
		return err
	}
	return z.Close()
}

// lossOf is what an error of a write costs an event.
func lossOf(err error) event.Loss {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return event.LossDisk
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, unix.EPIPE):
		return event.LossPeer
	}
	return event.LossWrite
}
