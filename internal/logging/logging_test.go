package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func mustSpec(t *testing.T, text string) Spec {
	t.Helper()
	s, err := ParseSpec(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestParseSpec(t *testing.T) {
	check := func(in, want string) {
		t.Helper()
		s, err := ParseSpec(in)
		if err != nil || s.String() != want {
			t.Errorf("ParseSpec(%q) = %q, %v; want %q", in, s, err, want)
		}
	}
	check("info", "info")
	check("WARN", "warn")
	check("bpf=debug", "info,bpf=debug")
	check("error, exporter::push=off ,bpf=trace", "error,bpf=trace,exporter.push=off")
	for _, bad := range []string{"", "loud", "info,", "info,debug", "info,=debug", "info,bpf=", "info,bpf=loud"} {
		if s, err := ParseSpec(bad); err == nil {
			t.Errorf("ParseSpec(%q) = %q, want an error", bad, s)
		}
	}
}

func TestLongestPrefixDecides(t *testing.T) {
	s := mustSpec(t, "warn,exporter=info,exporter.push=debug")
	for target, want := range map[string]slog.Level{
		"bpf": slog.LevelWarn, "exporter": slog.LevelInfo, "exporter.web": slog.LevelInfo,
		"exporter.push": slog.LevelDebug, "exporter.push.retry": slog.LevelDebug, "exporterx": slog.LevelWarn,
	} {
		if got := s.of(target); got != want {
			t.Errorf("level of %s: got %v, want %v", target, got, want)
		}
	}
}

func TestLevelChangesAtRunTime(t *testing.T) {
	levels := NewLevels(mustSpec(t, "info"))
	root, err := New(Options{Writer: io.Discard, Format: "json", Levels: levels})
	if err != nil {
		t.Fatal(err)
	}
	push := root.With(TargetKey, "exporter::push")
	if push.Enabled(t.Context(), slog.LevelDebug) {
		t.Error("debug is on before it was switched on")
	}
	levels.Set(mustSpec(t, "error,exporter=debug"))
	if !push.Enabled(t.Context(), slog.LevelDebug) || root.Enabled(t.Context(), slog.LevelWarn) {
		t.Error("a change must reach loggers that exist, each by its target")
	}
	want := map[string]slog.Level{"sonde": slog.LevelError, "exporter.push": slog.LevelDebug}
	if diff := cmp.Diff(want, levels.Targets()); diff != "" {
		t.Error(diff)
	}
}

func TestJSONRecord(t *testing.T) {
	var out bytes.Buffer
	log, err := New(Options{
		Writer: &out, Format: "json", Levels: NewLevels(mustSpec(t, "trace")),
		Metadata: []slog.Attr{slog.String("version", "1.2.3"), slog.String("node", "n1")},
	})
	if err != nil {
		t.Fatal(err)
	}
	log = log.With("level", "mine", TargetKey, "bpf").WithGroup("probe").With("name", "tcp")
	log.Log(t.Context(), LevelTrace, "attach refused", "err", "inner", "took", time.Second)
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%s: %v", out.Bytes(), err)
	}
	if _, err := time.Parse(time.RFC3339Nano, got["timestamp"].(string)); err != nil {
		t.Error(err)
	}
	if line, _ := got["line_number"].(float64); line == 0 {
		t.Error("no line number")
	}
	delete(got, "timestamp")
	delete(got, "line_number")
	want := map[string]any{
		"level": "TRACE", "target": "bpf", "filename": "logging/logging_test.go",
		"fields": map[string]any{
			"message": "attach refused", "level": "mine",
			"probe": map[string]any{"name": "tcp", "err": "inner", "took": float64(time.Second)},
		},
		"sensor_metadata": map[string]any{"version": "1.2.3", "node": "n1"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestJSONErrorIsFieldE(t *testing.T) {
	var out bytes.Buffer
	log, err := New(Options{Writer: &out, Format: "json", Levels: NewLevels(mustSpec(t, "info"))})
	if err != nil {
		t.Fatal(err)
	}
	log.Error("push refused", "err", errors.New("401 Unauthorized"))
	if !strings.Contains(out.String(), `"fields":{"message":"push refused","e":"401 Unauthorized"}`) {
		t.Error(out.String())
	}
}

func TestLogfmtRecord(t *testing.T) {
	var out bytes.Buffer
	log, err := New(Options{Writer: &out, Format: "logfmt", Levels: NewLevels(mustSpec(t, "info"))})
	if err != nil {
		t.Fatal(err)
	}
	log.With(TargetKey, "bpf").Info("probe attached", "probe", "tcp")
	log.Debug("unseen")
	_, after, _ := strings.Cut(out.String(), " ")
	if !strings.HasPrefix(after, "level=INFO source=logging/logging_test.go:") ||
		!strings.HasSuffix(after, ` msg="probe attached" target=bpf probe=tcp`+"\n") {
		t.Error(out.String())
	}
}

func TestUnknownFormat(t *testing.T) {
	if _, err := New(Options{Format: "xml", Levels: NewLevels(Spec{})}); err == nil {
		t.Error("an unknown format must be an error")
	}
}
