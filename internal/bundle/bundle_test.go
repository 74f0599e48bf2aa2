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
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sonde-ebpf/sonde/internal/config"
)

// text is an item with that text and error.
func text(name, content string, err error) Item {
	return Item{Name: name, Collect: func(_ context.Context, w io.Writer) error {
		if _, err := io.WriteString(w, content); err != nil {
			return err
		}
		return err
	}}
}

// pack writes an archive and unpacks it again.
func pack(t *testing.T, items []Item, o Options) (Manifest, map[string]string) {
	t.Helper()
	var seen []string
	o.Dir, o.Progress = "top", func(n, of int, out Outcome) error {
		seen = append(seen, out.Item)
		if n != len(seen) || of != len(items) {
			t.Errorf("progress says %d of %d after %d of %d", n, of, len(seen), len(items))
		}
		return nil
	}
	if o.Redactor == nil {
		o.Redactor = NewRedactor()
	}
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	var out bytes.Buffer
	m, err := Write(t.Context(), &out, items, o)
	if err != nil {
		t.Fatal(err)
	}
	compressed, err := gzip.NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]string{}
	for archive := tar.NewReader(compressed); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		there[strings.TrimPrefix(header.Name, "top/")] = string(content)
	}
	var read Manifest
	if err := json.Unmarshal([]byte(there["manifest.json"]), &read); err != nil || len(read.Items) != len(items) {
		t.Errorf("manifest: %v, %d lines for %d items", err, len(read.Items), len(items))
	}
	return m, there
}

// TestOutcomes has an item of every kind, and wants each to fail alone.
func TestOutcomes(t *testing.T) {
	m, there := pack(t, []Item{
		text("fine", "12345", nil),
		text("broken", "half", errors.New("password=hunter2 is wrong")),
		files(filepath.Join(t.TempDir(), "nothing")).item("missing"),
		command("sonde-no-such-program").item("no-tool"),
		command("sh", "-c", "echo said; exit 3").item("tool-fails"),
		text("long", strings.Repeat("x", 100), nil),
		text("fits", "0123456789", nil),
		text("late", "x", nil),
	}, Options{MaxItem: 64, MaxTotal: 5 + 4 + 5 + 64 + 10})
	want := []struct {
		name    string
		status  Status
		content string
		detail  string
	}{
		{"fine", Collected, "12345", ""},
		{"broken", Failed, "half", "password=[redacted] is wrong"},
		{"missing", Absent, "", "does not exist"},
		{"no-tool", Absent, "", "not found"},
		{"tool-fails", Failed, "said\n", "sh -c echo said; exit 3: exit status 3"},
		{"long", Cut, strings.Repeat("x", 64), "first 64 bytes"},
		{"fits", Collected, "0123456789", ""},
		{"late", Skipped, "", "full"},
	}
	for i, w := range want {
		got := m.Items[i]
		content, is := there[w.name]
		if got.Item != w.name || got.Status != w.status || content != w.content || is != (w.content != "") || !strings.Contains(got.Detail, w.detail) || got.Bytes != len(w.content) {
			t.Errorf("%+v with %q, want %+v", got, content, w)
		}
	}
}

func (c collector) item(name string) Item { return Item{Name: name, Collect: c} }

// TestTimeout: what does not end is ended, with its children, and what it had said
// is kept.
func TestTimeout(t *testing.T) {
	m, there := pack(t, []Item{command("sh", "-c", "echo begun; sleep 60 & wait").item("slow")},
		Options{MaxItem: 1 << 10, MaxTotal: 1 << 10, Timeout: 200 * time.Millisecond})
	if got := m.Items[0]; got.Status != Failed || !strings.Contains(got.Detail, "deadline exceeded") || there["slow"] != "begun\n" || got.Seconds > 20 {
		t.Errorf("%+v with %q", got, there["slow"])
	}
}

func TestFullDisk(t *testing.T) {
	full := errors.New("no space left on device")
	o := Options{Redactor: NewRedactor(), MaxItem: 1, MaxTotal: 1, Timeout: time.Second, Progress: func(int, int, Outcome) error { return nil }}
	if _, err := Write(t.Context(), failing{full}, []Item{text("a", "b", nil)}, o); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestRedact(t *testing.T) {
	r := NewRedactor(config.NewSecret("hunter2"), config.NewSecret("abc"), config.NewSecret("hunter2-long"))
	for in, want := range map[string]string{
		"nothing here: 42":                                                    "nothing here: 42",
		"x hunter2-long y hunter2":                                            "x [redacted] y [redacted]",
		"abc is too short to be looked for":                                   "abc is too short to be looked for",
		"get https://u:pass@h/p?key=v&x=y now":                                "get https://[redacted]@h/p?[redacted] now",
		"postgres://app@db/x":                                                 "postgres://[redacted]@db/x",
		`{"password":"p, q","b":1}`:                                           `{"password":"[redacted]","b":1}`,
		`{"token":"a\"b c","d":"e"}`:                                          `{"token":"[redacted]","d":"e"}`,
		"password: 'two words' # why":                                         "password: '[redacted]' # why",
		"DB_PASSWORD=x1 PATH=/bin":                                            "DB_PASSWORD=[redacted] PATH=/bin",
		"aws_secret_access_key: wJalr":                                        "aws_secret_access_key: [redacted]",
		"run --db-password s3cret --port 1":                                   "run --db-password [redacted] --port 1",
		"Authorization: Basic dTpw":                                           "Authorization: [redacted]",
		"sent Bearer abcdefgh.ijk":                                            "sent Bearer [redacted]",
		"Environment=FOO=bar BAZ=qux\nUser=root":                              "Environment=[redacted]\nUser=root",
		"id AKIAABCDEFGHIJKLMNOP.":                                            "id [redacted].",
		"eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.c2ln":                              "[redacted]",
		`"credentials":{"uid":0}`:                                             `"credentials":{"uid":0}`,
		"-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----": "-----BEGIN RSA PRIVATE KEY-----[redacted]-----END RSA PRIVATE KEY-----",
	} {
		got, n := r.Redact([]byte(in))
		if string(got) != want || n != strings.Count(want, mark) {
			t.Errorf("%q: got %q (%d), want %q", in, got, n, want)
		}
		if again, n := r.Redact(got); string(again) != want || n != 0 {
			t.Errorf("%q: a second time it is %q (%d)", in, again, n)
		}
	}
}

// TestMachine wants every item of this machine to be there or to say why not, and
// nothing of a process's arguments or environment in any.
func TestMachine(t *testing.T) {
	canary := fmt.Sprintf("canary-%d-%d", os.Getpid(), time.Now().UnixNano())
	slow := command("sh", "-c", "sleep 60 # "+canary)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = slow(ctx, io.Discard) }()
	defer func() { cancel(); <-ended }()
	t.Setenv("SONDE_TEST_CANARY", canary)

	items := Machine(MachineOptions{Root: "/", Proc: "/proc", Sys: "/sys", Release: "none", Dirs: []string{t.TempDir()}, Unit: "sonde-test.service"})
	items = append(items, SensorProcess("/proc", os.Getpid())...)
	m, there := pack(t, items, Options{MaxItem: 8 << 20, MaxTotal: 64 << 20})
	for _, o := range m.Items {
		if (o.Status == Absent || o.Status == Failed) && o.Detail == "" {
			t.Errorf("%+v does not say why", o)
		}
	}
	for _, must := range []string{"machine/kernel.txt", "machine/processes.txt", "machine/disk.txt", "machine/mounts.txt", "machine/io.txt", "sensor/process.txt"} {
		if there[must] == "" {
			t.Errorf("%s is empty", must)
		}
	}
	for name, content := range there {
		if strings.Contains(content, canary) {
			t.Errorf("%s holds arguments or environments", name)
		}
	}
}

// fakeKubectl answers what is asked for secrets, and tells how it was called.
const fakeKubectl = `#!/bin/sh
case "$*" in
*"get secrets"*) echo '{"items":[{"metadata":{"name":"sonde-push"},"type":"Opaque","data":{"token":"aHVudGVyMg==","user":"YWRtaW4="}}]}' ;;
*"get nodes"*) echo "error: forbidden" >&2; exit 1 ;;
*) echo "asked: $*" ;;
esac
`

// TestKubernetes: every object is asked for, one that is refused does no harm, and of
// secrets only the sizes are told.
func TestKubernetes(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "kubectl"), []byte(fakeKubectl), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	m, there := pack(t, Kubernetes("monitoring"), Options{MaxItem: 1 << 20, MaxTotal: 1 << 20})
	if got, want := there["kubernetes/secrets.txt"], "sonde-push Opaque token (7 bytes), user (5 bytes)\n"; got != want {
		t.Errorf("secrets: %q, want %q", got, want)
	}
	i := slices.IndexFunc(m.Items, func(o Outcome) bool { return o.Item == "kubernetes/nodes.yaml" })
	if m.Items[i].Status != Failed || !strings.Contains(there["kubernetes/nodes.yaml"], "forbidden") {
		t.Errorf("%+v with %q", m.Items[i], there["kubernetes/nodes.yaml"])
	}
	if got := there["kubernetes/daemonsets.yaml"]; !strings.Contains(got, "--namespace=monitoring") || !strings.Contains(got, "get daemonsets "+selector) {
		t.Errorf("daemonsets: %q", got)
	}
	t.Setenv("PATH", t.TempDir())
	m, _ = pack(t, Kubernetes("monitoring"), Options{MaxItem: 1 << 20, MaxTotal: 1 << 20})
	for _, o := range m.Items {
		if o.Status != Absent {
			t.Errorf("without kubectl: %+v", o)
		}
	}
}

func TestAbsentIsNotExist(t *testing.T) {
	if err := first("/nonexistent/a", "/nonexistent/b")(t.Context(), io.Discard); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
