package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var comparePrefix = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

func defaults() *Config { return New(map[string]bool{"syscalls": true, "workloads": false}) }

func read(text string) (*Config, error) {
	c := defaults()
	return c, c.Read("sonde.yaml", []byte(text))
}

// everything uses every key that there is.
const everything = `
collectors: {syscalls: false, workloads: true}
networking:
  externalIps: {enabled: enabled, direction: Egress}
  maxConnectionsPerMinute: "4096"
  knownNetworks: [{name: office, cidr: 203.0.113.0/24}]
  ignoredNetworks: [169.254.0.0/16, fe80::/10]
  nonAggregatedNetworks: [8.8.8.8]
  afterglowPeriod: 90s
processes: {arguments: false}
containers: {runtimes: {containerd: /run/containerd/containerd.sock}}
sessions:
  - {name: default, points: [{name: process/exec, context_fields: [container_id]}], sinks: [{name: jsonl}]}
rules: {files: [/etc/sonde/rules.d/*.yaml]}
log: {level: "warn,bpf=debug"}
limits:
  {ringBytes: 16MiB, processes: 32768, threads: 16384, threadsOverflow: 4096, syscallErrors: 1024, connections: 131072, flows: 8192,
   udpSockets: 4096, endpoints: 2048, containers: 512, queueEvents: 8192, queueTextBytes: 4MiB, textBytes: 16MiB, series: 512, seriesIdle: 10m}
`

func TestReadEverything(t *testing.T) {
	got, err := read(everything)
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.Collectors = map[string]bool{"syscalls": false, "workloads": true}
	want.Containers.Runtimes = map[string]string{"containerd": "/run/containerd/containerd.sock"}
	want.Limits = Limits{
		RingBytes: 16 << 20, Processes: 32768, Threads: 16384, ThreadsOverflow: 4096, SyscallErrors: 1024, Connections: 131072, Flows: 8192,
		UDPSockets: 4096, Endpoints: 2048, Containers: 512, QueueEvents: 8192, QueueTextBytes: 4 << 20, TextBytes: 16 << 20, Series: 512, SeriesIdle: 10 * time.Minute,
	}
	want.Runtime = Runtime{
		Networking: Networking{
			ExternalIPs:             ExternalIPs{Enabled: "ENABLED", Direction: "EGRESS"},
			MaxConnectionsPerMinute: 4096,
			KnownNetworks:           []Network{{"office", mustPrefix("203.0.113.0/24")}},
			IgnoredNetworks:         []Prefix{mustPrefix("169.254.0.0/16"), mustPrefix("fe80::/10")},
			NonAggregatedNetworks:   []Prefix{mustPrefix("8.8.8.8/32")},
			AfterglowPeriod:         90 * time.Second,
		},
		Sessions: []Session{{Name: "default", Raw: map[string]any{
			"name":   "default",
			"points": []any{map[string]any{"name": "process/exec", "context_fields": []any{"container_id"}}},
			"sinks":  []any{map[string]any{"name": "jsonl"}},
		}}},
		Rules: Rules{Files: []string{"/etc/sonde/rules.d/*.yaml"}},
		Log:   Log{Level: "warn,bpf=debug"},
	}
	want.origins = got.origins
	if diff := cmp.Diff(want, got, comparePrefix, cmp.AllowUnexported(Config{})); diff != "" {
		t.Error(diff)
	}
	for _, v := range got.Values() {
		if v.Origin != OriginFile {
			t.Errorf("%s: origin %s, although the text sets every key", v.Key, v.Origin)
		}
	}
}

func TestEmptyTextsAreDefaults(t *testing.T) {
	for _, text := range []string{"", "\n# nothing\n", "{}", "networking:\n", "---\n"} {
		got, err := read(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if diff := cmp.Diff(defaults(), got, comparePrefix, cmp.AllowUnexported(Config{})); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

// TestFaults holds every fault to its sentence: where, what, remedy.
func TestFaults(t *testing.T) {
	check := func(text string, want ...string) {
		t.Helper()
		_, err := read(text)
		if err == nil {
			t.Errorf("%q: no error", text)
			return
		}
		if diff := cmp.Diff(strings.Join(want, "\n"), err.Error()); diff != "" {
			t.Errorf("%q:\n%s", text, diff)
		}
	}
	check("colectors: {}", `sonde.yaml:1: colectors is not a key here; known here: collectors, containers, limits, networking, processes, sessions, rules, log`)
	check("networking:\n  externalIPs: {}", `sonde.yaml:2: networking.externalIPs is not a key here; did you mean externalIps?`)
	check("networking:\n  externalIps: {enabled: maybe}", `sonde.yaml:2: networking.externalIps.enabled is "maybe": write one of ENABLED, DISABLED`)
	check("collectors: {syscalls: yes}", `sonde.yaml:1: collectors.syscalls is "yes": write true or false`)
	check("collectors: [syscalls]", `sonde.yaml:1: collectors is a list; write keys and values`)
	check("limits: {ringBytes: 8Mb}", `sonde.yaml:1: limits.ringBytes is "8Mb": write a whole number with KiB, MiB or GiB, such as 8MiB`)
	check("limits: {ringBytes: 9MiB}", `sonde.yaml:1: limits.ringBytes is "9MiB": the kernel wants a power of two, such as 16MiB`)
	check("limits: {ringBytes: 1KiB}", `sonde.yaml:1: limits.ringBytes is "1KiB": write a size from 256KiB to 1GiB`)
	check("limits: {processes: many}", `sonde.yaml:1: limits.processes is "many": write a whole number from 1024 to 4194304`)
	check("limits: {processes: [1]}", `sonde.yaml:1: limits.processes is a list; write one value`)
	check("limits:\n  processes:\n", `sonde.yaml:2: limits.processes has no value; write one or remove the key`)
	check("limits: {processes: 2048, processes: 4096}", `sonde.yaml:1: limits.processes is given twice; keep one`)
	check("networking: {afterglowPeriod: 300}", `sonde.yaml:1: networking.afterglowPeriod is "300": write a duration with its unit from 0s to 1h0m0s, such as 90s`)
	check("networking: {ignoredNetworks: [10.0.0.0/8, 10.1.2.3/8]}", `sonde.yaml:1: networking.ignoredNetworks[1] is "10.1.2.3/8": it has bits beyond its length; write 10.0.0.0/8`)
	check("networking: {ignoredNetworks: 10.0.0.0/8}", `sonde.yaml:1: networking.ignoredNetworks is "10.0.0.0/8"; write a list`)
	check("networking: {knownNetworks: [{name: a}]}", `sonde.yaml:1: networking.knownNetworks[0] has no cidr; write one, such as {name: office, cidr: 203.0.113.0/24}`)
	check("containers: {runtimes: {rkt: /run/x}}", `sonde.yaml:1: containers.runtimes.rkt is not a known runtime; known: containerd, crio, docker, podman`)
	check("containers: {runtimes: {docker: docker.sock}}", `sonde.yaml:1: containers.runtimes.docker is "docker.sock": write the absolute path of a socket`)
	check("sessions: [{points: []}]", `sonde.yaml:1: sessions[0] has no name; give every session a name of its own`)
	check("sessions: [{name: a}, {name: a}]", `sonde.yaml:1: sessions[1] has the name "a" of another session; give every session a name of its own`)
	check("sessions: [default]", `sonde.yaml:1: sessions[0] is "default"; write keys and values`)
	check("rules: {files: ['']}", `sonde.yaml:1: rules.files[0] is "": write something or remove the entry`)
	check("log: {level: loud}", `sonde.yaml:1: log.level is "loud": "loud" is not a level; use trace, debug, info, warn, error or off`)
	check("a: &x {}\nlog: *x", `sonde.yaml:1: a is not a key here; known here: collectors, containers, limits, networking, processes, sessions, rules, log`,
		`sonde.yaml:2: log is an alias; write the value itself`)
	check("- a", `sonde.yaml:1 is a list; write keys and values`)
	check("log: {level: info", `sonde.yaml is not YAML: line 1: did not find expected ',' or '}'`)
	check("log: {}\n---\nlog: {}", `sonde.yaml:2 holds more than one YAML document; keep the first`)
	check(strings.Repeat("#", maxFile+1), `sonde.yaml is larger than 1MiB; a configuration is much smaller`)
	// All at once, in the order of the text.
	check("limits: {processes: 1, rings: 2}\nlog: {level: loud}",
		`sonde.yaml:1: limits.processes is "1": write a whole number from 1024 to 4194304`,
		`sonde.yaml:1: limits.rings is not a key here; known here: ringBytes, processes, threads, threadsOverflow, syscallErrors, connections, flows, udpSockets, endpoints, containers, queueEvents, queueTextBytes, textBytes, series, seriesIdle`,
		`sonde.yaml:2: log.level is "loud": "loud" is not a level; use trace, debug, info, warn, error or off`)
}

func TestSetOverridesFile(t *testing.T) {
	c, err := read("limits: {ringBytes: 1MiB, processes: 2048}\nlog: {level: debug}")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Set("limits.ringBytes", "2MiB", "SONDE_LIMITS_RING_BYTES", OriginEnv); err != nil {
		t.Fatal(err)
	}
	if err := c.Set("limits.ringBytes", "4MiB", "--limits.ring-bytes", OriginFlag); err != nil {
		t.Fatal(err)
	}
	if err := c.Set("collectors.workloads", "true", "SONDE_COLLECTOR_WORKLOADS", OriginEnv); err != nil {
		t.Fatal(err)
	}
	if c.Limits.RingBytes != 4<<20 || !c.Collectors["workloads"] || c.Limits.Processes != 2048 {
		t.Errorf("%+v", c)
	}
	for key, want := range map[string]Origin{
		"limits.ringBytes": OriginFlag, "collectors.workloads": OriginEnv,
		"limits.processes": OriginFile, "limits.containers": OriginDefault,
	} {
		if got := c.Origin(key); got != want {
			t.Errorf("origin of %s: got %s, want %s", key, got, want)
		}
	}
	err = c.Set("limits.ringBytes", "3MiB", "--limits.ring-bytes", OriginFlag)
	if err == nil || err.Error() != `--limits.ring-bytes is "3MiB": the kernel wants a power of two, such as 4MiB` {
		t.Error(err)
	}
	if c.Set("limits", "1", "--limits", OriginFlag) == nil || c.Set("no.such", "1", "--no.such", OriginFlag) == nil {
		t.Error("a key that takes no value must be refused")
	}
}

func TestReadFile(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "sonde.yaml")
	if err := defaults().ReadFile(missing, false); err != nil {
		t.Errorf("an absent default file is fine: %v", err)
	}
	if err := defaults().ReadFile(missing, true); err == nil || !strings.Contains(err.Error(), "no such file; create it") {
		t.Errorf("an absent named file: got %v", err)
	}
	if err := defaults().ReadFile(filepath.Dir(missing), false); err == nil {
		t.Error("a directory is not a file")
	}
	if err := os.WriteFile(missing, []byte("log: {level: debug}"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := defaults()
	if err := c.ReadFile(missing, false); err != nil || c.Runtime.Log.Level != "debug" {
		t.Errorf("got level %s, %v", c.Runtime.Log.Level, err)
	}
}

func TestValuesAreJSON(t *testing.T) {
	c, err := read(everything)
	if err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(c.Values())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`{"key":"limits.ringBytes","value":"16MiB","origin":"file"}`,
		`"203.0.113.0/24"`, `{"key":"collectors.syscalls","value":false,"origin":"file"}`,
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%s lacks %s", out, want)
		}
	}
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]Bytes{"0": 0, "42": 42, "42B": 42, "64KiB": 64 << 10, "8 MiB": 8 << 20, "2GiB": 2 << 30} {
		got, err := ParseBytes(text)
		if err != nil || got != want {
			t.Errorf("ParseBytes(%q) = %d, %v", text, got, err)
		}
		if again, err := ParseBytes(got.String()); err != nil || again != got {
			t.Errorf("%q does not survive its own String %q", text, got)
		}
	}
	for _, bad := range []string{"", "MiB", "-1", "1.5MiB", "8MB", "8 Mi", "99999999999GiB", "0x10"} {
		if got, err := ParseBytes(bad); err == nil {
			t.Errorf("ParseBytes(%q) = %d", bad, got)
		}
	}
}

func TestSecretNeverShows(t *testing.T) {
	s := NewSecret("hunter2")
	type holder struct {
		Token Secret
		Ptr   *Secret
	}
	h := holder{s, &s}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+verb, s, h)
	}
	data, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(data)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "s", s, "p", &s, "h", h)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "s", s, "p", &s, "h", h)
	if strings.Contains(out.String(), "hunter2") || strings.Contains(out.String(), "68756e746572") {
		t.Error(out.String())
	}
	if s.Reveal() != "hunter2" || NewSecret("").String() != "" {
		t.Error("Reveal gives the text back, and no secret shows as nothing")
	}
}

func TestRedactURL(t *testing.T) {
	for in, want := range map[string]string{
		"https://host:8428/api":                  "https://host:8428/api",
		"https://me:hunter2@host/api?token=abcd": "https://redacted@host/api?redacted",
		"http://[bad":                            redacted,
	} {
		if got := RedactURL(in); got != want {
			t.Errorf("RedactURL(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestStoreRollsBack(t *testing.T) {
	var calls []string
	var refuse error
	at := func(level string) *Config {
		c := defaults()
		c.Runtime.Log.Level = level
		return c
	}
	s := NewStore(at("info"), "start",
		Applier{"first", func(r Runtime) error { calls = append(calls, "first "+r.Log.Level); return nil }},
		Applier{"second", func(r Runtime) error { calls = append(calls, "second "+r.Log.Level); return nil }},
		Applier{"third", func(Runtime) error { return refuse }},
	)
	if err := s.Apply(at("debug"), "PUT"); err != nil {
		t.Fatal(err)
	}
	if c := s.Current(); c.Generation != 2 || c.Config.Runtime.Log.Level != "debug" || c.Source != "PUT" {
		t.Errorf("%+v", c)
	}
	refuse, calls = errors.New("no"), nil
	err := s.Apply(at("warn"), "file")
	when, why := s.Refused()
	if err == nil || err.Error() != "apply file to third: no" || !errors.Is(why, refuse) || when.Before(s.Current().Time) {
		t.Errorf("got %v, refused %v at %v", err, why, when)
	}
	want := []string{"first warn", "second warn", "second debug", "first debug"}
	if diff := cmp.Diff(want, calls); diff != "" {
		t.Errorf("roll back in reverse order:\n%s", diff)
	}
	if c := s.Current(); c.Generation != 2 || c.Config.Runtime.Log.Level != "debug" {
		t.Errorf("a refused change left its mark: %+v", c)
	}
	refuse = nil
	err = s.Apply(at("error"), "file")
	if _, why := s.Refused(); err != nil || why != nil {
		t.Errorf("got %v, refused %v", err, why)
	}
}

// TestPutIsOverTheFile: what was put stays until the file is taken over anew, and
// every value tells where it is from.
func TestPutIsOverTheFile(t *testing.T) {
	file, err := read("log: {level: debug}\nlimits: {processes: 2048}")
	if err != nil {
		t.Fatal(err)
	}
	s := NewStore(file, "sonde.yaml")
	put := func(text string) error { return s.Put([]byte(text), "PUT by me") }
	if err := errors.Join(put(`{"networking": {"maxConnectionsPerMinute": "7"}}`), put("processes: {arguments: false}")); err != nil {
		t.Fatal(err)
	}
	now := s.Current().Config
	if n := now.Runtime.Networking.MaxConnectionsPerMinute; n != 7 || now.Runtime.Processes.Arguments || now.Runtime.Log.Level != "debug" {
		t.Errorf("in force: %+v", now.Runtime)
	}
	for key, want := range map[string]Origin{
		"networking.maxConnectionsPerMinute": OriginPut, "processes.arguments": OriginPut, "log.level": OriginFile,
		"limits.processes": OriginFile, "networking.afterglowPeriod": OriginDefault,
	} {
		if got := now.Origin(key); got != want {
			t.Errorf("origin of %s: %s, want %s", key, got, want)
		}
	}
	if got := file.Origin("processes.arguments"); got != OriginDefault || !file.Runtime.Processes.Arguments {
		t.Error("the configuration of the start was changed")
	}
	err = put("limits: {processes: 4096}\nlog: {level: loud}")
	if err == nil || strings.Count(err.Error(), "PUT by me:") != 2 {
		t.Errorf("want both faults: %v", err)
	}
	again, err := read("log: {level: warn}\nlimits: {processes: 4096}")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(again, "sonde.yaml"); err != nil {
		t.Fatal(err)
	}
	now = s.Current().Config
	if now.Runtime.Networking.MaxConnectionsPerMinute != 2048 || now.Runtime.Log.Level != "warn" || now.Limits.Processes != 2048 {
		t.Errorf("after the file has changed: %+v %+v", now.Runtime, now.Limits)
	}
	if now.Origin("processes.arguments") != OriginDefault || s.Current().Generation != 4 {
		t.Errorf("origin %s, generation %d", now.Origin("processes.arguments"), s.Current().Generation)
	}
}

// TestCollectorsFiles: the runtime configuration of StackRox Collector is taken as it
// is, and what it calls default is one.
func TestCollectorsFiles(t *testing.T) {
	for name, want := range map[string]ExternalIPs{
		"enabled": {"ENABLED", "BOTH"}, "disabled": {"DISABLED", "BOTH"}, "ingress": {"ENABLED", "INGRESS"}, "egress": {"ENABLED", "EGRESS"},
		"default": {"ENABLED", "BOTH"}, "printed": {"ENABLED", "BOTH"},
	} {
		c := defaults()
		if err := c.ReadFile(filepath.Join("testdata", "collector", name+".yaml"), true); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := c.Runtime.Networking.ExternalIPs; got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
		if limit := c.Runtime.Networking.MaxConnectionsPerMinute; limit != map[bool]int{true: 1024, false: 2048}[name == "ingress"] {
			t.Errorf("%s: %d connections per minute", name, limit)
		}
	}
	err := defaults().ReadFile(filepath.Join("testdata", "collector", "invalid.yaml"), true)
	if err == nil || strings.Count(err.Error(), "invalid.yaml:") != 3 {
		t.Errorf("want three faults: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(everything)
	f.Add("sessions: [{name: [a]}, {? [x] : y}]\nlimits: &a {ringBytes: *a}")
	f.Add("<<: {log: 1}\n? {a: b}\n: c")
	f.Add(`{"networking":{"maxConnectionsPerMinute":"2048"}}`)
	files, err := filepath.Glob("testdata/collector/*")
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		// What may be put may stand in a file.
		if _, err := defaults().Put("PUT", []byte(text)); err == nil {
			if _, err := read(text); err != nil {
				t.Errorf("%q may be put, but not stand in a file: %v", text, err)
			}
		}
		c, err := read(text)
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without a sentence")
			}
			return
		}
		// What was accepted is within its bounds and can be shown.
		l := c.Limits
		if l.RingBytes&(l.RingBytes-1) != 0 || l.RingBytes < 256<<10 || l.Processes < 1024 || l.Connections < 1024 || l.Containers < 16 {
			t.Errorf("%q: limits out of bounds: %+v", text, l)
		}
		if p := c.Runtime.Networking.AfterglowPeriod; p < 0 || p > time.Hour {
			t.Errorf("%q: afterglow %v", text, p)
		}
		_ = fmt.Sprint(c.Values())
	})
}
