package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sonde-ebpf/sonde/internal/blackbox"
	"github.com/sonde-ebpf/sonde/internal/logging"
	"github.com/sonde-ebpf/sonde/internal/state"
	"github.com/sonde-ebpf/sonde/introspect"
)

// fakeSensor is what the verbs ask: introspection itself, over what a test made up.
func fakeSensor(t *testing.T, change func(*introspect.Sources)) (address string) {
	t.Helper()
	spec, err := logging.ParseSpec("info,bpf=warn")
	if err != nil {
		t.Fatal(err)
	}
	levels := logging.NewLevels(spec)
	log, err := logging.New(logging.Options{Writer: io.Discard, Format: "json", Levels: levels})
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"bpf", "exporter", "exporter.push"} {
		log.With(logging.TargetKey, target)
	}
	now := time.Now()
	sources := introspect.Sources{
		Ready: func() introspect.Readiness { return introspect.Readiness{Node: "n1", Events: 1234} },
		Sensor: func() introspect.Sensor {
			return introspect.Sensor{
				Version: "1.2.3", Revision: "abc", GoVersion: "go1.26", Node: "n1", Kernel: "6.18.0", PID: 42, Started: now.Add(-192*time.Minute - 30*time.Second),
				Addresses: map[string][]string{"introspect": {"http://127.0.0.1:8080"}, "metrics": {"[::]:9743"}},
				CPURatio:  new(0.0123), Memory: introspect.SensorMemory{Sensor: new(uint64(60 << 20)), BPF: new(uint64(45 << 20)), Limit: new(uint64(256 << 20)), Usage: new(uint64(80 << 20))},
				Programs: []introspect.SensorProgram{{Program: "tcp_state", Runs: 4, Seconds: 1e-6}, {Program: "oom_kill"}},
				Maps:     []introspect.SensorMap{{Map: "tcp_sockets", Entries: new(uint64(7)), MaxEntries: 100, Memory: 2 << 20}, {Map: "ring", MaxEntries: 8 << 20}},
			}
		},
		Pipeline: func() introspect.Pipeline {
			return introspect.Pipeline{
				Probes: []introspect.PipelineProbe{
					{Probe: "tcp", Attached: true, Attach: "tp_btf"}, {Probe: "udp", Attached: true, Attach: "raw_tp", Reason: "no cgroup v2"}, {Probe: "oom", Reason: "refused"},
				},
				Rings:    []introspect.PipelineRing{{Ring: "events", Size: 8 << 20, Used: 1 << 20}},
				Points:   []introspect.PipelinePoint{{Point: "network/connect", Attempted: 5, Submitted: 4, Dropped: 1, Decoded: 4}},
				Sessions: []introspect.PipelineSession{{Session: "default", Sink: "jsonl", Matched: 3, Delivered: 2, Dropped: 1, Capacity: 10}},
				State:    []introspect.PipelineTable{{Table: "process", Entries: 3, Max: 10, Evictions: 1}},
				Reader:   introspect.PipelineReader{Read: 4}, Canary: introspect.PipelineCanary{Arrived: 9},
				Reports:  introspect.PipelineReports{Active: 6, Ended: 5, Deferred: 4},
				BlackBox: introspect.BlackBox{LastEnd: &blackbox.End{Reason: blackbox.OOMKill, Time: now.Add(-3*time.Hour - 30*time.Second), PID: 41, Detail: "cgroup out of memory"}},
				Memory:   introspect.Memory{ShedLevel: 1},
			}
		},
		Processes:  fakeProcesses{},
		Containers: fakeContainers{},
		Runtime:    fakeRuntime{since: now.Add(-90*time.Minute - 30*time.Second)},
		Levels:     levels,
		Wall:       func(ns uint64) time.Time { return now.Add(time.Duration(ns) - 100*time.Hour - time.Minute) },
	}
	if change != nil {
		change(&sources)
	}
	return serveFake(t, sources, introspect.Options{ListenAddresses: []string{"unix://" + filepath.Join(t.TempDir(), "s")}})
}

// serveFake serves until the test ends and returns the first address as --address
// takes it.
func serveFake(t *testing.T, sources introspect.Sources, o introspect.Options) (address string) {
	t.Helper()
	o.Logger = slog.New(slog.DiscardHandler)
	s := introspect.New(o)
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(t.Context(), sources) }()
	t.Cleanup(func() {
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return s.URLs()[0]
}

type fakeProcesses struct{}

func (fakeProcesses) Processes(q state.Query) (int, iter.Seq[*state.Process]) {
	hour := uint64(time.Hour)
	all := []*state.Process{
		{PID: 1, Container: "host", Comm: "init", Exe: "/sbin/init", StartNS: 1, LoginUID: state.NoLoginUID},
		{PID: 3, PPID: 1, Container: "host", Comm: "java", Args: "java\x00" + strings.Repeat("é", 300), StartNS: 2, LoginUID: state.NoLoginUID},
		{PID: 2, Container: "host", Comm: "kthreadd", StartNS: 1, LoginUID: state.NoLoginUID},
		{PID: 20, PPID: 1, Container: "host", Comm: "sshd", Exe: "/usr/sbin/sshd", Args: "sshd\x00-D\x00", StartNS: 2 * hour, LoginUID: state.NoLoginUID},
		{PID: 21, PPID: 20, Container: "host", Comm: "bash", Args: "-bash\x00", UID: 1000, LoginUID: 1000, StartNS: 99 * hour},
		{PID: 30, PPID: 1, Container: "aaaaaaaaaaaa", Comm: "x", Args: "evil\x1b[2J\x00two\nlines\x00", StartNS: 3 * hour, LoginUID: state.NoLoginUID},
		// Its parent's pid was given out again since.
		{PID: 40, PPID: 30, Container: "host", Comm: "orphan", StartNS: hour, LoginUID: state.NoLoginUID},
		{PID: 10, PPID: 11, Container: "host", Comm: "a", StartNS: 5, LoginUID: state.NoLoginUID},
		{PID: 11, PPID: 10, Container: "host", Comm: "b", StartNS: 5, LoginUID: state.NoLoginUID},
	}
	if q.Container != "" {
		all = all[:1]
	}
	return len(all), func(yield func(*state.Process) bool) {
		for _, p := range all {
			if !yield(p) {
				return
			}
		}
	}
}

func (fakeProcesses) Process(uint32) (state.Process, bool) { return state.Process{}, false }

type fakeContainers struct{}

func (fakeContainers) Containers() []introspect.Container {
	return []introspect.Container{
		{ID: strings.Repeat("a", 64), Namespace: "shop", Pod: "web-0", Name: "nginx", Image: "nginx:1", Runtime: "containerd", Enrichment: "complete"},
		{ID: "test/c-abc", Runtime: "containerd", Enrichment: "pending"},
	}
}

func (fakeContainers) Container(string) (introspect.Container, bool) {
	return introspect.Container{}, false
}

type fakeRuntime struct{ since time.Time }

func (f fakeRuntime) RuntimeConfig() introspect.RuntimeConfig {
	return introspect.RuntimeConfig{
		Generation: 2, Source: "/etc/sonde/sonde.yaml", Time: f.since,
		LastError: errors.Join(errors.New("sonde.yaml:1: a"), errors.New("sonde.yaml:2: b")), LastErrorTime: f.since.Add(30 * time.Minute),
	}
}

func (fakeRuntime) PutRuntimeConfig([]byte, string) error { return nil }

// sonde runs a verb and returns what it says.
func sonde(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// TestVerbs holds what the verbs show to the reviewed files in testdata/verbs.
func TestVerbs(t *testing.T) {
	address := fakeSensor(t, nil)
	for name, args := range map[string][]string{
		"status": {"status"}, "get-statistics": {"get-statistics"}, "actors": {"actors"}, "actors-container": {"actors", "--container=aaaaaaaaaaaa"},
		"containers": {"containers"}, "log-level": {"log-level"},
		"log-level-target": {"log-level", "exporter"}, "containers-json": {"containers", "--json"}, "actors-json": {"actors", "--json", "--container=host"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := sonde(t, append(args, "--address="+address)...)
			if code != 0 || stderr != "" {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
			if strings.Contains(name, "json") {
				stdout = untimed(stdout)
			}
			sameAsGolden(t, name, stdout)
		})
	}
}

// sameAsGolden compares what a verb has printed with what is recorded of it.
func sameAsGolden(t *testing.T, name, printed string) {
	t.Helper()
	path := filepath.Join("testdata", "verbs", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(printed), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), printed); diff != "" {
		t.Errorf("%s differs; review and run go test -update (-want +got):\n%s", path, diff)
	}
}

// untimed leaves out the lines whose value is another one every time.
func untimed(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.Contains(line, `"start"`) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// TestJSONIsTheSensorsOwn: a verb's JSON is what it decoded, and nothing is lost on
// the way.
func TestJSONIsTheSensorsOwn(t *testing.T) {
	address := fakeSensor(t, nil)
	for verb, want := range map[string][]string{
		"status":         {`"status": "ok"`, `"generation": 2`, `"last_error": "sonde.yaml:1: a\nsonde.yaml:2: b"`, `"cpu_ratio": 0.0123`, `"reason": "refused"`},
		"get-statistics": {`"run_seconds": 0.000001`, `"attempted": 5`, `"session": "default"`},
		"log-level":      {`"spec": "info,bpf=warn"`, `"exporter.push": "info"`},
		"version":        {`"platform": `, `"revision": "abc"`, `"pid": 42`},
	} {
		code, stdout, stderr := sonde(t, verb, "--json", "--address="+address)
		if code != 0 || !json.Valid([]byte(stdout)) {
			t.Errorf("%s: exit code %d, %s: %s", verb, code, stderr, stdout)
		}
		for _, w := range want {
			if !strings.Contains(stdout, w) {
				t.Errorf("%s --json lacks %s: %s", verb, w, stdout)
			}
		}
	}
}

// TestStatusOfOneThatIsNotReady is printed as ever, and has a code of its own.
func TestStatusOfOneThatIsNotReady(t *testing.T) {
	address := fakeSensor(t, func(s *introspect.Sources) {
		s.Ready = func() introspect.Readiness {
			return introspect.Readiness{Reasons: []string{"no canary", "blind"}, Drops: introspect.Drops{Total: 3, RingBuffer: 2, Decode: 1}}
		}
	})
	code, stdout, stderr := sonde(t, "status", "--address="+address)
	if code != int(exitNotReady) || stderr != "sonde: the sensor is not ready: no canary; blind\n" {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	for _, want := range []string{"ready       no          no canary; blind", "losses      3           ring full 2, malformed 1,"} {
		if !strings.Contains(strings.Join(strings.Fields(stdout), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("%s\nlacks %s", stdout, want)
		}
	}
}

func TestSetLogLevel(t *testing.T) {
	address := fakeSensor(t, nil)
	for _, tc := range []struct {
		args []string
		code exitCode
		spec string
	}{
		{[]string{"debug"}, exitOK, "debug,bpf=warn"},
		{[]string{"bpf", "trace"}, exitOK, "debug,bpf=trace"},
		{[]string{"exporter", "off"}, exitOK, "debug,bpf=trace,exporter=off"},
		{[]string{"bpf"}, exitOK, "debug,bpf=trace,exporter=off"},
		{[]string{"bpf", "loud"}, exitUsage, "debug,bpf=trace,exporter=off"},
		{[]string{"nosuch", "info"}, exitUsage, "debug,bpf=trace,exporter=off"},
		{[]string{"info,bpf=debug"}, exitUsage, "debug,bpf=trace,exporter=off"},
	} {
		if code, _, stderr := sonde(t, append([]string{"log-level", "--address=" + address}, tc.args...)...); code != int(tc.code) {
			t.Errorf("%v: exit code %d, want %d: %s", tc.args, code, tc.code, stderr)
		}
		_, stdout, _ := sonde(t, "log-level", "--json", "--address="+address)
		if !strings.Contains(stdout, `"spec": "`+tc.spec+`"`) {
			t.Errorf("%v: %s, want %s", tc.args, stdout, tc.spec)
		}
	}
}

// TestFindingTheSensor: the first address that can be reached is asked; a file that
// its sensor has left behind is known as such.
func TestFindingTheSensor(t *testing.T) {
	address := fakeSensor(t, nil)
	dir := t.TempDir()
	const gone = 1<<22 + 1 // more than the kernel's largest pid
	for _, tc := range []struct {
		pid       int
		addresses []string
		code      exitCode
		says      string
	}{
		{os.Getpid(), []string{"unix:///nowhere", address}, exitOK, ""},
		{gone, []string{address}, exitOK, ""}, // of another pid namespace
		{gone, []string{"unix:///nowhere"}, exitNoSensor, "was left behind by process 4194305, which has ended); start one with `sonde run`"},
		{gone, nil, exitNoSensor, "was left behind"},
		{os.Getpid(), []string{"unix:///nowhere", "http://127.0.0.1:1"}, exitNoAnswer, "dial unix /nowhere: connect: no such file or directory; dial tcp 127.0.0.1:1: connect: connection refused"},
		{os.Getpid(), nil, exitNoAnswer, "answers no questions; start it without --no-introspect.enable"},
	} {
		if err := announce(dir, discovery{PID: tc.pid, Addresses: map[string][]string{listenerIntrospect: tc.addresses}}); err != nil {
			t.Fatal(err)
		}
		code, _, stderr := sonde(t, "containers", "--run.dir="+dir)
		if code != int(tc.code) || !strings.Contains(stderr, tc.says) || strings.Count(stderr, "\n") > 1 {
			t.Errorf("%+v: exit code %d, %q", tc, code, stderr)
		}
	}
	if err := os.WriteFile(discoveryPath(dir), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := sonde(t, "containers", "--run.dir="+dir); code != int(exitNoAnswer) {
		t.Errorf("half a file: exit code %d, %q", code, stderr)
	}
}

// TestVerbsWithCredentials: a sensor on another machine is asked over TLS, by somebody
// that it knows.
func TestVerbsWithCredentials(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tls := httptest.NewUnstartedServer(nil) // for its certificate
	tls.StartTLS()
	defer tls.Close()
	key, err := x509.MarshalPKCS8PrivateKey(tls.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, bytes []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}))
	}
	cert := file("cert.pem", block("CERTIFICATE", tls.Certificate().Raw))
	file("key.pem", block("PRIVATE KEY", key))
	const hash = "$2a$04$TnFtISP/4Z65gs3mjg9Asu2LWbu5MIzfHdepQGWF8keDKcHt3yRl2" // bcrypt, of "secret"
	web := file("web.yml", fmt.Sprintf("tls_server_config: {cert_file: cert.pem, key_file: key.pem}\nbasic_auth_users: {me: %q}\n", hash))
	address := serveFake(t, introspect.Sources{Containers: fakeContainers{}}, introspect.Options{ListenAddresses: []string{"127.0.0.1:0"}, WebConfigFile: web})

	password, wrong := file("password", "secret\n"), file("wrong", "Secret\n")
	for _, tc := range []struct {
		args []string
		code exitCode
		says string
	}{
		{[]string{"--ca-file=" + cert, "--username=me", "--password-file=" + password}, exitOK, ""},
		{[]string{"--ca-file=" + cert, "--username=me", "--password-file=" + wrong}, exitNoAnswer, "401 Unauthorized: Unauthorized; say who asks with --username and --password-file"},
		{[]string{"--ca-file=" + cert}, exitNoAnswer, "401 Unauthorized"},
		{[]string{"--username=me", "--password-file=" + password}, exitNoAnswer, "certificate signed by unknown authority"},
	} {
		code, stdout, stderr := sonde(t, append([]string{"containers", "--address=" + address}, tc.args...)...)
		if code != int(tc.code) || !strings.Contains(stderr, tc.says) || (code == 0) != strings.Contains(stdout, "web-0") {
			t.Errorf("%v: exit code %d, %q %q", tc.args, code, stdout, stderr)
		}
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"": "-", "plain": "plain", "日本": "日本", "a\tb\n": `a\tb\n`, "\x1b[2J": `\x1b[2J`, "\u202e": `\u202e`, "\u009b": `\u009b`,
	} {
		if got := printable(in); got != want {
			t.Errorf("%q is printed as %q, want %q", in, got, want)
		}
	}
}

func TestUnits(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 999: "999 B", 1000: "1.0 KiB", 1 << 20: "1.0 MiB", 1000 << 20: "1.0 GiB", 1 << 62: "4194304.0 TiB"} {
		if got := size(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 59*time.Second + 1: "59s", time.Minute: "1m00s", time.Hour - 1: "59m59s", 25 * time.Hour: "1d01h", 23*time.Hour + 59*time.Minute: "23h59m",
	} {
		if got := age(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}
