package logging

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
)

// TargetKey is the attribute that names the part of the sensor that speaks:
// logger.With(logging.TargetKey, "exporter.push"). It chooses the level and
// becomes a field of its own.
const TargetKey = "target"

// RootTarget is the target of a logger that was not given one.
const RootTarget = "sonde"

// Options describe a logger.
type Options struct {
	Writer io.Writer // shared by all loggers made from it; one Write per record
	Format string    // "logfmt" or "json"
	Levels *Levels
	// Metadata names the sensor in every JSON record, under "sensor_metadata".
	Metadata []slog.Attr
}

// New returns the root logger.
//
// A JSON record has the keys timestamp, level, target, filename, line_number,
// fields (message, e for the attribute "err", and all other attributes) and
// sensor_metadata. A logfmt record has time, level, source, target, msg and the
// attributes.
func New(o Options) (*slog.Logger, error) {
	h := &handler{levels: o.Levels, level: o.Levels.target(RootTarget), target: RootTarget}
	switch o.Format {
	case "json":
		h.inner = slog.NewJSONHandler(o.Writer, &slog.HandlerOptions{Level: LevelTrace, ReplaceAttr: replaceJSON})
		h.metadata = slog.Attr{Key: "sensor_metadata", Value: slog.GroupValue(o.Metadata...)}
		h.json = true
	case "logfmt":
		h.inner = slog.NewTextHandler(o.Writer, &slog.HandlerOptions{Level: LevelTrace, AddSource: true, ReplaceAttr: replaceText})
	default:
		return nil, fmt.Errorf("log format %q is unknown; use logfmt or json", o.Format)
	}
	return slog.New(h), nil
}

// handler arranges records and leaves their encoding to slog's own handlers.
type handler struct {
	inner    slog.Handler
	json     bool
	levels   *Levels
	level    *slog.LevelVar
	target   string
	metadata slog.Attr
	scopes   []scope // what With and WithGroup gave, outermost first
}

// scope is one group with the attributes given inside of it; the first has no name.
type scope struct {
	name  string
	attrs []slog.Attr
}

// Enabled implements slog.Handler with one atomic load.
func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

// WithAttrs implements slog.Handler. An attribute "target" outside of groups
// moves the logger to that target.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := h.clone()
	for _, a := range attrs {
		if a.Key == TargetKey && len(h.scopes) <= 1 {
			c.target = a.Value.String()
			c.level = h.levels.target(c.target)
			continue
		}
		if len(c.scopes) == 0 {
			c.scopes = []scope{{}}
		}
		last := &c.scopes[len(c.scopes)-1]
		last.attrs = append(slices.Clip(last.attrs), a)
	}
	return c
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	c := h.clone()
	if len(c.scopes) == 0 {
		c.scopes = []scope{{}}
	}
	c.scopes = append(c.scopes, scope{name: name})
	return c
}

func (h *handler) clone() *handler {
	c := *h
	c.scopes = slices.Clone(h.scopes)
	return &c
}

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	out := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	attrs := h.attrs(r)
	if !h.json {
		out.AddAttrs(slog.String(TargetKey, h.target))
		out.AddAttrs(attrs...)
		return h.inner.Handle(ctx, out)
	}
	out.AddAttrs(slog.String(TargetKey, h.target))
	if r.PC != 0 {
		frame, _ := runtime.CallersFrames([]uintptr{r.PC}).Next()
		out.AddAttrs(slog.String("filename", shortFile(frame.File)), slog.Int("line_number", frame.Line))
	}
	fields := append([]slog.Attr{slog.String("message", r.Message)}, attrs...)
	out.AddAttrs(slog.Attr{Key: "fields", Value: slog.GroupValue(fields...)}, h.metadata)
	return h.inner.Handle(ctx, out)
}

// attrs nests the record's attributes into the groups they were logged in.
func (h *handler) attrs(r slog.Record) []slog.Attr {
	attrs := make([]slog.Attr, 0, r.NumAttrs())
	r.Attrs(func(a slog.Attr) bool { attrs = append(attrs, a); return true })
	for _, s := range slices.Backward(h.scopes) {
		attrs = append(slices.Clone(s.attrs), attrs...)
		if s.name != "" {
			attrs = []slog.Attr{{Key: s.name, Value: slog.GroupValue(attrs...)}}
		}
	}
	return attrs
}

// replaceJSON renames what slog adds by itself. The message is already a field.
func replaceJSON(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 1 && groups[0] == "fields" && a.Key == "err" {
		a.Key = "e"
	}
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.TimeKey:
		a.Key = "timestamp"
	case slog.LevelKey:
		return upperLevel(a)
	case slog.MessageKey:
		return slog.Attr{}
	}
	return a
}

func replaceText(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	if src, ok := a.Value.Any().(*slog.Source); ok && a.Key == slog.SourceKey {
		return slog.String(slog.SourceKey, fmt.Sprintf("%s:%d", shortFile(src.File), src.Line))
	}
	if a.Key == slog.LevelKey {
		return upperLevel(a)
	}
	return a
}

// upperLevel writes a level by its name: slog would write TRACE as DEBUG-4. An
// attribute that a caller named "level" stays as it is.
func upperLevel(a slog.Attr) slog.Attr {
	if l, ok := a.Value.Any().(slog.Level); ok && l == LevelTrace {
		return slog.String(slog.LevelKey, "TRACE")
	}
	return a
}

// shortFile keeps the package's directory and the file: enough to find it, and
// the same wherever the binary was built.
func shortFile(path string) string {
	return filepath.Join(filepath.Base(filepath.Dir(path)), filepath.Base(path))
}
