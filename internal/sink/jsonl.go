package sink

import (
	"bytes"
	encoding "encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/sonde-ebpf/sonde/internal/config"
	"github.com/sonde-ebpf/sonde/internal/event"
)

// JSONLines writes events as JSON lines to a file that it rotates, or to a stream.
type JSONLines struct {
	*Gate

	encoder lines
	out     output
	outcome []event.Loss // of each event of a batch
	missing uint64       // events of which the stream has still to tell that they are
}

// output is where lines go. Write writes all of b or nothing.
type output interface {
	io.WriteCloser
	// Sync is called after each batch, to make its lines last where that is wanted.
	Sync() error
}

// flushBytes is how much is written at once at most, but for one line.
const flushBytes = 64 << 10

// jsonLinesConfig is the sink's configuration, as it stands in a session.
type jsonLinesConfig struct {
	Path        string   `json:"path"`         // absolute, or "stdout"
	MaxSize     size     `json:"max_size"`     // a file that reaches it is put aside
	MaxFiles    int      `json:"max_files"`    // put aside; the oldest is removed
	RotateEvery duration `json:"rotate_every"` // 0: by size only
	Compress    bool     `json:"compress"`     // what is put aside
	Mode        string   `json:"mode"`         // of the files, octal
	Fsync       string   `json:"fsync"`        // never, batch, or a duration between two
}

// Place is where a sink may write.
type Place struct {
	Stdout io.Writer
	// Dir is the directory below which files must lie; it is made if it is absent.
	// Sessions may be created by whoever reaches introspection, the sensor is root.
	Dir string
}

// file checks that a path lies in the place, and makes the place.
func (p Place) file(path string) error {
	inside, err := filepath.Rel(p.Dir, path)
	if err != nil || !filepath.IsAbs(path) || !filepath.IsLocal(inside) || inside == "." {
		return fmt.Errorf("path %q: write stdout, or an absolute path below %s (--events.dir)", path, p.Dir)
	}
	return os.MkdirAll(p.Dir, 0o750)
}

// NewJSONLines opens the sink. values is its configuration: path, max_size (100MiB),
// max_files (5), rotate_every, compress, mode (0600), fsync (never), and that of a Gate.
func NewJSONLines(values map[string]any, place Place, m Machine) (*JSONLines, error) {
	c := jsonLinesConfig{MaxSize: 100 << 20, MaxFiles: 5, Mode: "0600", Fsync: "never"}
	gate, values, err := TakeGate(values, m)
	if err == nil {
		err = decode(values, &c)
	}
	if err != nil {
		return nil, err
	}
	s := &JSONLines{Gate: gate, encoder: newLines(m, gate.Choice)}
	if c.Path == "stdout" {
		s.out = stream{place.Stdout}
		return s, nil
	}
	if err := place.file(c.Path); err != nil {
		return nil, err
	}
	o, err := c.file()
	if err != nil {
		return nil, err
	}
	s.out, err = openFile(o)
	return s, err
}

func (c *jsonLinesConfig) file() (o fileOptions, err error) {
	o = fileOptions{path: c.Path, maxSize: int64(c.MaxSize), maxFiles: c.MaxFiles, every: time.Duration(c.RotateEvery), compress: c.Compress}
	mode, err := strconv.ParseUint(c.Mode, 8, 9)
	if err != nil {
		return o, fmt.Errorf("mode %q: write octal digits, such as 0600", c.Mode)
	}
	o.mode = uint32(mode)
	switch c.Fsync {
	case "never":
		o.sync = -1
	case "batch":
		o.sync = 0
	default:
		if o.sync, err = time.ParseDuration(c.Fsync); err != nil || o.sync <= 0 {
			return o, fmt.Errorf("fsync %q: write never, batch or a time such as 1s", c.Fsync)
		}
	}
	return o, o.validate()
}

// Deliver writes a batch, a line for each event.
func (s *JSONLines) Deliver(batch []event.Event, lost func(*event.Event, event.Loss)) {
	s.encoder.boot = s.encoder.machine.Boot()
	s.outcome = append(s.outcome[:0], make([]event.Loss, len(batch))...)
	first := 0 // of the events whose lines are not written yet
	for i := range batch {
		if s.missing > 0 && len(s.encoder.json.b) == 0 {
			s.encoder.missing(s.missing, time.Now())
		}
		s.encoder.line(&batch[i])
		if len(s.encoder.json.b) >= flushBytes {
			s.settle(first, i+1, s.write())
			first = i + 1
		}
	}
	s.settle(first, len(batch), s.write())
	s.settle(0, len(batch), s.out.Sync())
	for i, loss := range s.outcome {
		if loss != delivered {
			lost(&batch[i], loss)
		}
	}
}

// Lost implements stream.Teller: a line comes before the next that can be written.
func (s *JSONLines) Lost(n uint64) { s.missing += n }

// delivered is the outcome of an event that is not lost: no sink loses one in the ring.
const delivered = event.LossRing

// settle enters what became of a part of the batch.
func (s *JSONLines) settle(from, to int, err error) {
	if err == nil {
		return
	}
	loss := lossOf(err)
	for i := from; i < to; i++ {
		if s.outcome[i] == delivered {
			s.outcome[i] = loss
		}
	}
}

// write writes the lines in the buffer.
func (s *JSONLines) write() error {
	if len(s.encoder.json.b) == 0 {
		return nil
	}
	_, err := s.out.Write(s.encoder.json.b)
	if err == nil {
		s.missing = 0
	}
	s.encoder.json.b = s.encoder.json.b[:0]
	return err
}

// Close closes the file.
func (s *JSONLines) Close() error { return s.out.Close() }

// stream is an output that is not ours to close.
type stream struct{ io.Writer }

func (stream) Sync() error  { return nil }
func (stream) Close() error { return nil }

// decode fills a configuration; a key that it has not is an error.
func decode(values map[string]any, into any) error {
	text, err := encoding.Marshal(values)
	if err != nil {
		return err
	}
	d := encoding.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// size reads a number of bytes, or one with a unit.
type size uint64

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *size) UnmarshalText(text []byte) error {
	n, err := config.ParseBytes(string(text))
	*s = size(n)
	return err
}

// duration reads a time such as 24h.
type duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = duration(v)
	return err
}
