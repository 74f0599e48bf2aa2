// Package bundle packs what tells of a sensor and of its machine into one archive
// for whoever has to help. Every item is bounded in time and size, fails alone, and
// has its outcome in the manifest; every text passes the same Redactor.
package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path"
	"time"
)

// Item is one file of the archive.
type Item struct {
	Name string // path in the archive, such as "machine/mounts.txt"
	// Binary items are stored as they come; all others are texts and redacted.
	Binary bool
	// Collect writes the item. What it has written before it fails is kept. An error
	// that wraps fs.ErrNotExist or exec.ErrNotFound says that this machine has no such
	// thing.
	Collect func(ctx context.Context, w io.Writer) error
}

// Status is what became of an item.
type Status string

// The statuses.
const (
	Collected Status = "ok"
	Cut       Status = "cut"     // the beginning is there, the rest had no room
	Absent    Status = "absent"  // this machine does not have it
	Failed    Status = "failed"  // Detail says why; what there was of it is kept
	Skipped   Status = "skipped" // the archive was full
)

// Outcome is the line of an item in the manifest.
type Outcome struct {
	Item     string  `json:"item"`
	Status   Status  `json:"status"`
	Detail   string  `json:"detail,omitempty"`
	Bytes    int     `json:"bytes"`    // in the archive, uncompressed
	Redacted int     `json:"redacted"` // how many secrets were taken out
	Seconds  float64 `json:"seconds"`
}

// Manifest is manifest.json, the last file of the archive.
type Manifest struct {
	Version string    `json:"version"` // of the sensor's binary
	Time    time.Time `json:"time"`
	Items   []Outcome `json:"items"`
}

// Options of an archive.
type Options struct {
	Version  string
	Dir      string        // the directory that all files are in
	MaxItem  int           // bytes of one item
	MaxTotal int           // bytes of all, uncompressed; the manifest comes on top
	Timeout  time.Duration // for one item
	Redactor *Redactor
	Progress func(number, of int, o Outcome) error // after every item
}

// Write collects the items, one after the other, and writes the archive. An error is
// that of writing it, of Progress, or of ctx; items fail into the manifest.
func Write(ctx context.Context, w io.Writer, items []Item, o Options) (Manifest, error) {
	m := Manifest{Version: o.Version, Time: time.Now().UTC(), Items: []Outcome{}}
	compressed := gzip.NewWriter(w)
	archive := tar.NewWriter(compressed)
	add := func(name string, content []byte) error {
		header := &tar.Header{Name: path.Join(o.Dir, name), Mode: 0o600, Size: int64(len(content)), ModTime: m.Time, Format: tar.FormatPAX}
		if err := archive.WriteHeader(header); err != nil {
			return fmt.Errorf("write %s to the archive: %w", name, err)
		}
		if _, err := archive.Write(content); err != nil {
			return fmt.Errorf("write %s to the archive: %w", name, err)
		}
		return nil
	}
	left := o.MaxTotal
	for i, item := range items {
		if err := ctx.Err(); err != nil {
			return m, err
		}
		outcome, content := collect(ctx, item, min(left, o.MaxItem), o)
		left -= len(content)
		if len(content) > 0 {
			if err := add(item.Name, content); err != nil {
				return m, err
			}
		}
		m.Items = append(m.Items, outcome)
		if err := o.Progress(i+1, len(items), outcome); err != nil {
			return m, err
		}
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return m, fmt.Errorf("encode manifest: %w", err)
	}
	return m, errors.Join(add("manifest.json", append(text, '\n')), archive.Close(), compressed.Close())
}

// collect runs one item into at most room bytes.
func collect(ctx context.Context, item Item, room int, o Options) (Outcome, []byte) {
	out := Outcome{Item: item.Name, Status: Skipped, Detail: "the archive is full"}
	if room <= 0 {
		return out, nil
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	begin := time.Now()
	into := &bounded{room: room}
	err := item.Collect(ctx, into)
	out.Seconds = time.Since(begin).Seconds()
	content := into.kept.Bytes()
	if !item.Binary {
		content, out.Redacted = o.Redactor.Redact(content)
		content = content[:min(len(content), room)] // a mark may be longer than the secret
	}
	out.Status, out.Detail, out.Bytes = Collected, "", len(content)
	switch {
	case into.over:
		out.Status, out.Detail = Cut, fmt.Sprintf("only the first %d bytes", room)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, exec.ErrNotFound):
		out.Status = Absent
	case err != nil:
		out.Status = Failed
	}
	if err != nil && out.Detail == "" {
		detail, _ := o.Redactor.Redact([]byte(err.Error()))
		out.Detail = string(detail)
	}
	return out, content
}

// bounded keeps the first bytes that are written, and refuses to go on after them.
type bounded struct {
	kept bytes.Buffer // not embedded: it has other ways to be written, without a bound
	room int
	over bool
}

// errFull ends an item that has no room left.
var errFull = errors.New("no room left in the archive")

func (b *bounded) Write(p []byte) (int, error) {
	n, _ := b.kept.Write(p[:min(len(p), b.room-b.kept.Len())])
	if n < len(p) {
		b.over = true
		return n, errFull
	}
	return n, nil
}
