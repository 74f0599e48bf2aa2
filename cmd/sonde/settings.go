package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"github.com/sonde-ebpf/sonde/internal/config"
	"github.com/sonde-ebpf/sonde/internal/gvisor"
	"github.com/sonde-ebpf/sonde/internal/tetragon"
	"github.com/sonde-ebpf/sonde/internal/unixsocket"
)

// settings are the flags of run and check that have no key in the configuration
// file, checked and typed. What has a key is in config.Config.
type settings struct {
	configFile  string
	configNamed bool // by flag or environment, so that it must exist

	listen           []string
	systemdSocket    bool
	webConfigFile    string
	dashboardsURL    string
	collectorTimeout time.Duration
	maxRequests      int

	introspect, introspectWrite bool
	introspectListen            []string
	introspectWebConfigFile     string

	stateDir, pinDir, runDir  string
	eventsDir                 string
	eventsHold                time.Duration
	terminationFile           string
	stopTimeout               time.Duration
	btf                       string
	procFS, sysFS, cgroupFS   string
	rootFS                    string
	node                      string
	logFormat                 string
	collectorsDisableDefaults bool

	push pushSettings

	gvisorEndpoint string

	grpcListen, grpcInfoFile string

	table []*setting
}

type pushSettings struct {
	url                       string
	interval, timeout         time.Duration
	job                       string
	caFile, certFile, keyFile string
	username, passwordFile    string
	bearerTokenFile           string
	headersFile               string
}

// newSettings makes the flags of a verb.
func newSettings(verb *kingpin.CmdClause) *settings {
	s := &settings{}
	s.table = s.flags()
	for _, f := range s.table {
		f.register(verb)
	}
	return s
}

// flags is every setting, in the order of the help.
func (s *settings) flags() []*setting {
	one := func(text string) []string { return []string{text} }
	all := []*setting{
		{name: "config.file", preset: one("/etc/sonde/sonde.yaml"), set: text(&s.configFile),
			help: "Configuration file; what may change while the sensor runs follows it. The default one may be absent, a named one may not."},
		{name: "web.listen-address", preset: one(":9743"), repeated: true, set: texts(&s.listen, checkListen),
			help: "Address of /metrics, /healthz and /readyz: host:port or unix:///path. Repeatable."},
		{name: "web.systemd-socket", toggle: true, preset: one("false"), set: toggled(&s.systemdSocket),
			help: "Serve on the sockets that systemd passes (socket activation) instead of --web.listen-address."},
		{name: "web.config.file", set: text(&s.webConfigFile),
			help: "File that switches on TLS or authentication, in the format of Prometheus' exporter-toolkit."},
		{name: "web.collector-timeout", preset: one("5s"), set: period(&s.collectorTimeout, 100*time.Millisecond, time.Minute),
			help: "Longest time one collector may take for a scrape; a scrape that announces less gets less."},
		{name: "web.dashboards-url", set: checked(&s.dashboardsURL, checkURL),
			help: "Address of dashboards that show this sensor. The landing page links to it."},
		{name: "web.max-requests", preset: one("16"), set: whole(&s.maxRequests, 1, 1024),
			help: "Scrapes served at once; more are answered 503. Each may hold the exposition once, about 150 bytes a series."},
		{name: "introspect.enable", toggle: true, preset: one("true"), set: toggled(&s.introspect),
			help: "Answer questions about what the sensor holds as JSON (/state, /ready, /loglevel)."},
		{name: "introspect.listen-address", preset: one("127.0.0.1:8080"), repeated: true, set: texts(&s.introspectListen, checkListen),
			help: "Address of introspection: host:port or unix:///path. Repeatable. By default also introspect.sock in --run.dir. An address that other nodes reach needs a web config file that asks for credentials."},
		{name: "introspect.enable-write", toggle: true, preset: one("true"), set: toggled(&s.introspectWrite),
			help: "Allow the verbs that change something (PUT, POST). By default only where no other node can ask."},
		{name: "introspect.web.config.file", set: text(&s.introspectWebConfigFile),
			help: "File that switches on TLS or authentication for introspection, in the format of Prometheus' exporter-toolkit."},
		{name: "push.url", show: config.RedactURL, set: checked(&s.push.url, checkURL),
			help: "Push the metrics there in the Prometheus text format, for nodes that cannot be scraped. Empty: no push."},
		{name: "push.interval", preset: one("30s"), set: period(&s.push.interval, time.Second, time.Hour),
			help: "Time between two pushes."},
		{name: "push.timeout", preset: one("10s"), set: period(&s.push.timeout, 100*time.Millisecond, 5*time.Minute),
			help: "Longest time one try of a push may take."},
		{name: "push.job", preset: one("sonde"), set: text(&s.push.job),
			help: "Label job of pushed series; the label instance is --node.name. Empty: no such label."},
		{name: "push.ca-file", set: text(&s.push.caFile),
			help: "PEM file of the authorities that may sign the receiver's certificate. Empty: those of the system."},
		{name: "push.cert-file", set: text(&s.push.certFile), help: "PEM file of the client certificate for pushes."},
		{name: "push.key-file", set: text(&s.push.keyFile), help: "PEM file of the client certificate's key."},
		{name: "push.username", set: text(&s.push.username), help: "User name for basic authentication of pushes."},
		{name: "push.password-file", set: text(&s.push.passwordFile), help: "File with the password that goes with --push.username."},
		{name: "push.bearer-token-file", set: text(&s.push.bearerTokenFile), help: "File with a bearer token for pushes."},
		{name: "push.headers-file", set: text(&s.push.headersFile), help: "File with HTTP headers for pushes, one \"Name: value\" a line."},
		{name: "gvisor.endpoint", set: checked(&s.gvisorEndpoint, checkEndpoint),
			help: "Socket on which gVisor's sandboxes are received, such as " + gvisor.DefaultEndpoint + ". Root alone may connect. Empty: none are."},
		{name: "grpc.listen-address", preset: one("unix:///run/sonde/" + tetragonSocket), set: checked(&s.grpcListen, checkListenOrNone),
			help: "Address of Tetragon's API: unix:///path, for root alone, or host:port on loopback. By default in --run.dir. Empty: none."},
		{name: "grpc.info-file", preset: one(tetragon.DefaultInfoFile), set: text(&s.grpcInfoFile),
			help: "File in which Tetragon's clients look for that address. It is left alone where another sensor has written it. Empty: none."},
		{name: "state.dir", preset: one("/var/lib/sonde"), set: checked(&s.stateDir, checkAbsolute),
			help: "Directory for what must survive a restart."},
		{name: "events.dir", preset: one("/var/log/sonde"), set: checked(&s.eventsDir, checkAbsolute),
			help: "Directory below which the files of sinks must lie, whoever creates the session."},
		{name: "events.hold", preset: one("1s"), set: period(&s.eventsHold, 0, time.Minute),
			help: "Longest time that a sink holds the first events of a container, from when the container was first seen, so that they carry its name and pod. Only that sink waits; a name that came too late counts in sonde_container_lookups_total{result=\"late\"}. 0: never."},
		{name: "bpf.pin-dir", preset: one("/sys/fs/bpf/sonde"), set: checked(&s.pinDir, checkAbsolute),
			help: "Directory in bpffs for what must survive the death of the sensor. One running instance each."},
		{name: "run.dir", preset: one("/run/sonde"), set: checked(&s.runDir, checkAbsolute),
			help: "Directory of the discovery file sonde.json and of the instance lock."},
		{name: "run.termination-file", preset: one("/dev/termination-log"), set: text(&s.terminationFile),
			help: "File that gets the reason of a failed end, if it exists. Kubernetes shows it in the pod's status."},
		{name: "run.stop-timeout", preset: one("5s"), set: period(&s.stopTimeout, 100*time.Millisecond, 5*time.Minute),
			help: "Longest time for an orderly stop."},
		{name: "btf", set: text(&s.btf), help: "BTF file of the running kernel, for kernels without /sys/kernel/btf/vmlinux."},
		{name: "path.rootfs", preset: one("/"), set: checked(&s.rootFS, checkAbsolute),
			help: "Where the host's root directory is mounted, such as /host in a container. --path.procfs and --path.sysfs are below it unless they are given; cgroups and sockets of container runtimes are looked for there too."},
		{name: "path.procfs", preset: one("/proc"), set: checked(&s.procFS, checkAbsolute), help: "Mount point of procfs."},
		{name: "path.sysfs", preset: one("/sys"), set: checked(&s.sysFS, checkAbsolute), help: "Mount point of sysfs."},
		{name: "path.cgroupfs", set: text(&s.cgroupFS),
			help: "Root of the host's cgroup v2 hierarchy. Empty: sys/fs/cgroup below --path.rootfs or /host, or the mount that shows the whole machine."},
		{name: "process-arguments", toggle: true, preset: one("true"), key: "processes.arguments",
			help: "Keep the arguments of processes: in /state, in events and in what is sent. Passwords are sometimes among them."},
		{name: "node.name", set: text(&s.node), help: "Name of this node in logs and pushed series. Empty: the host name."},
		{name: "log.level", preset: one("info"), key: "log.level",
			help: "Least severe records that are logged: trace, debug, info, warn, error or off; exceptions follow as target=level, such as info,exporter=debug."},
		{name: "log.format", preset: one("logfmt"), set: oneOf(&s.logFormat, "logfmt", "json"), help: "Form of the log: logfmt or json."},
	}
	all = append(all, limitFlags()...)
	return append(all, s.collectorFlags()...)
}

// limitFlags are the bounds that size memory, each with its formula. A
// default is made smaller where the memory limit asks for it (fitSizes).
func limitFlags() []*setting {
	flag := func(name, key, preset, help string) *setting {
		return &setting{name: "limits." + name, key: "limits." + key, preset: []string{preset}, help: help}
	}
	return []*setting{
		flag("ring-bytes", "ringBytes", "8MiB",
			"Size of the event ring, a power of two from 256KiB to 1GiB. One ring serves all CPUs, so this is the total: kernel memory = ring-bytes."),
		flag("processes", "processes", "65536",
			"Live processes known at once. Kernel memory = processes x 80 B (default 5 MiB). More are counted, but their life is timed from the fork."),
		flag("flows", "flows", "65536",
			"UDP flows known at once. Kernel memory = flows x 160 B (default 10 MiB). A flow beyond it is not counted as a flow, but as a map failure."),
		flag("udp-sockets", "udpSockets", "32768",
			"UDP sockets known at once: those that are bound, and those with flows. Kernel memory = udp-sockets x 120 B (default 3.75 MiB), and x 128 B more where /proc has to tell what is open at the start. One beyond it is no endpoint, its flows have no owner and close when idle; it is counted as a map failure."),
		flag("endpoints", "endpoints", "16384",
			"Listening TCP sockets and UDP endpoints that introspection shows, those of the last minute included. Memory = endpoints x 180 B (default 2.8 MiB); of kernel memory endpoints x 88 B more at the start only, for the listening ports that tell who called whom. The oldest are given up first, and counted as evictions."),
		flag("threads", "threads", "65536",
			"Threads whose system calls are timed without a detour, rounded up to a power of two. Kernel memory = threads x 24 B (default 1.5 MiB)."),
		flag("threads-overflow", "threadsOverflow", "8192",
			"Threads beyond, whose calls are timed with a detour. Kernel memory = threads-overflow x 96 B (default 768 KiB). The calls of more are counted as unpaired, and the threads as map failures."),
		flag("syscall-errors", "syscallErrors", "2048",
			"Pairs of system call and error number told apart. Kernel memory = syscall-errors x (72 B + 8 B x CPUs) (default 176 KiB on 2 CPUs). Errors beyond it count under the error number other, and as map failures."),
		flag("connections", "connections", "262144",
			"Open TCP sockets followed at once, and connections that introspection shows. Kernel memory = connections x 120 B (default 30 MiB), and x 128 B more where the kernel refuses to iterate over files and /proc has to tell what is open at the start; of the sensor's own, while the kernel's sockets are compared with the picture, 64 B for each one open. A connection beyond it is in none of the connection counts, and counted as a map failure."),
		flag("containers", "containers", "4096",
			"Containers known at once. Memory = containers x about 1 KiB when full."),
		flag("queue-events", "queueEvents", "4096",
			"Events that wait for one sink of a session, rounded up to a power of two. Memory = queue-events x 928 B and --limits.queue-text-bytes, for each sink, taken when its session begins. More are lost, less important points before others, and counted."),
		flag("queue-text-bytes", "queueTextBytes", "1MiB",
			"Room for the texts of the events that wait for one sink: paths, arguments, addresses of calls. Rounded up to a power of two."),
		flag("text-bytes", "textBytes", "32MiB",
			"Memory for paths, arguments and container ids that introspection shows. What does not fit is shown as empty."),
		flag("series", "series", "4096",
			"Series of one metric family whose labels come from what is observed, such as system call and error number. Memory = series x 400 B, of histograms x 2 KiB, when full. What is beyond it counts under other, and in sonde_series_limited_total."),
		flag("series-idle", "seriesIdle", "1h0m0s",
			"Time after which a series that has not moved gives up its place to another one that wants it. While there is room it stays."),
	}
}

// collectorFlags switch collectors on and off.
func (s *settings) collectorFlags() []*setting {
	all := []*setting{{name: "collector.disable-defaults", toggle: true, preset: []string{"false"}, set: toggled(&s.collectorsDisableDefaults),
		help: "Switch every collector off that is not switched on by name."}}
	for _, c := range collectorTable {
		all = append(all, &setting{name: "collector." + c.name, key: "collectors." + c.name, toggle: true,
			preset: []string{strconv.FormatBool(c.on)}, help: "Collector " + c.name + ": " + c.help})
	}
	return all
}

// load checks every setting and reads the configuration. It returns every fault
// at once; the error has its exit code.
func (s *settings) load() (*config.Config, error) {
	var faults []error
	s.lookBelowRootFS()
	none := config.New(nil)
	for _, f := range s.table {
		if f.key == "" {
			faults = append(faults, f.apply(none))
		}
	}
	origin, _ := s.setting("config.file").origin()
	s.configNamed = origin != config.OriginDefault
	c, err := s.config()
	if err := errors.Join(append(faults, err)...); err != nil {
		return nil, &exitError{code: exitConfig, err: err}
	}
	return c, nil
}

// lookBelowRootFS takes what is not given below the host's root directory.
func (s *settings) lookBelowRootFS() {
	root := s.setting("path.rootfs").String()
	for _, name := range []string{"path.procfs", "path.sysfs"} {
		f := s.setting(name)
		if origin, _ := f.origin(); origin == config.OriginDefault {
			f.texts = []string{filepath.Join(root, f.preset[0])}
		}
	}
}

// config lays the configuration file over the defaults, and environment and
// flags over both. A reload calls it again; it changes nothing in s.
func (s *settings) config() (*config.Config, error) {
	c := config.New(defaultCollectors(s.collectorsDisableDefaults))
	faults := []error{c.ReadFile(s.configFile, s.configNamed)}
	for _, f := range s.table {
		if f.key != "" {
			faults = append(faults, f.apply(c))
		}
	}
	_, err := listedSessions(c.Runtime.Sessions)
	_, rulesErr := compileRules(c.Runtime.Rules)
	return c, errors.Join(append(faults, err, rulesErr)...)
}

func (s *settings) setting(name string) *setting {
	for _, f := range s.table {
		if f.name == name {
			return f
		}
	}
	return nil
}

// values lists every effective value with its origin: settings without a key
// first, then those of the configuration. Credentials in URLs are hidden.
func (s *settings) values(c *config.Config) []config.Value {
	var all []config.Value
	for _, f := range s.table {
		if f.key != "" {
			continue
		}
		origin, _ := f.origin()
		all = append(all, config.Value{Key: f.name, Value: f.shown(f.String()), Origin: origin})
	}
	return append(all, c.Values()...)
}

// logValues lists what is not a default, for one line at the start. Of sessions it
// lists the names: what filters and sinks are given may be secret.
func (s *settings) logValues(c *config.Config) []any {
	var attrs []any
	for _, v := range s.values(c) {
		if v.Origin == config.OriginDefault {
			continue
		}
		if sessions, is := v.Value.([]config.Session); is {
			names := []string{}
			for _, one := range sessions {
				names = append(names, one.Name)
			}
			v.Value = names
		}
		attrs = append(attrs, slog.Any(v.Key, v.Value))
	}
	return attrs
}

// The checks of single settings; their errors say what to write.

func checked(dst *string, check func(string) error) func(string) error {
	return func(t string) error {
		if err := check(t); err != nil {
			return err
		}
		*dst = t
		return nil
	}
}

func checkListen(address string) error {
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		return checkAbsolute(path)
	}
	_, port, err := net.SplitHostPort(address)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n > 65535 {
		return errors.New("write host:port, such as :9743 or 127.0.0.1:9743, or unix:///path")
	}
	return nil
}

func checkListenOrNone(address string) error {
	if address == "" {
		return nil
	}
	return checkListen(address)
}

func checkAbsolute(path string) error {
	if !filepath.IsAbs(path) {
		return errors.New("write an absolute path")
	}
	return nil
}

func checkEndpoint(path string) error {
	switch {
	case path == "":
		return nil
	case len(path) > unixsocket.MaxPath:
		return fmt.Errorf("a socket's path has %d bytes at most", unixsocket.MaxPath)
	}
	return checkAbsolute(path)
}

func checkURL(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return errors.New("write http://host:port/path or https://")
	}
	if u.User != nil {
		return fmt.Errorf("credentials do not belong there; use --push.username and --push.password-file")
	}
	return nil
}
