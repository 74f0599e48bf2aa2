// Package config reads the configuration file, lays flags and environment over
// it, and keeps the part that may change while the sensor runs.
//
// Config is frozen once the sensor has started; Runtime is the part that a
// reload may replace, and Store is its only writer. Neither knows who consumes
// it. A value's origin travels with it, so that every effective value can be
// explained.
package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"time"
)

// Config is everything the configuration file may say, defaults filled in.
// It is not safe for concurrent use while it is being filled, and never changes
// afterwards.
type Config struct {
	// Collectors switches collectors on and off; every known one has an entry.
	Collectors map[string]bool
	Containers Containers
	Limits     Limits
	Runtime    Runtime

	file    FileVersion
	origins map[string]Origin
}

// Containers says where container runtimes listen.
type Containers struct {
	// Runtimes maps containerd, crio, docker or podman to the absolute path of
	// its socket. Without an entry the usual paths are tried.
	Runtimes map[string]string
}

// Limits bound what the sensor holds and shows. Most size kernel maps at load; none
// can change later.
type Limits struct {
	RingBytes       Bytes         // of the event ring, shared by all CPUs; a power of two
	Processes       int           // live processes known at once
	Threads         int           // threads whose system calls are timed without a detour
	ThreadsOverflow int           // threads beyond, which are looked up in a hash
	SyscallErrors   int           // pairs of system call and error number that are told apart
	Connections     int           // open TCP sockets known at once
	Flows           int           // open UDP flows known at once
	UDPSockets      int           // UDP sockets with a port or a flow known at once
	Endpoints       int           // listening TCP sockets and UDP endpoints known at once
	Containers      int           // containers known at once
	QueueEvents     int           // that wait for one sink of a session
	QueueTextBytes  Bytes         // of their texts
	TextBytes       Bytes         // of paths, arguments and container ids together
	Series          int           // of one family whose labels come from what is observed
	SeriesIdle      time.Duration // after which a series gives up its place to another
}

// Runtime is what may change while the sensor runs. A Runtime that was handed
// out is never written again: a change makes a new one.
type Runtime struct {
	Networking Networking
	Processes  Processes
	Sessions   []Session
	Rules      Rules
	Log        Log
}

// Networking says how connections are shown. The keys and their values are
// those of StackRox Collector's runtime configuration, with ours beside them.
type Networking struct {
	ExternalIPs             ExternalIPs
	MaxConnectionsPerMinute int // per container; 0 means no limit
	KnownNetworks           []Network
	IgnoredNetworks         []Prefix
	NonAggregatedNetworks   []Prefix
	AfterglowPeriod         time.Duration
}

// ExternalIPs says for which direction public peer addresses are kept.
type ExternalIPs struct {
	Enabled   string // "ENABLED" or "DISABLED"
	Direction string // "INGRESS", "EGRESS" or "BOTH"
}

// Network is a range of addresses with a name.
type Network struct {
	Name string
	CIDR Prefix
}

// Processes says what is kept of a process.
type Processes struct {
	Arguments bool
}

// Session is one session: points with filters, and sinks. Only the shape is checked
// here: a list of mappings, each with a name of its own.
type Session struct {
	Name string
	Raw  map[string]any // the whole mapping, name included
}

// Rules names the files with detection rules: paths, patterns of paths, or "default"
// for those that are part of the sensor. None by default: no rule is evaluated then.
type Rules struct {
	Files []string
}

// Log says how much is logged.
type Log struct {
	Level string // as internal/logging.ParseSpec reads it
}

// New returns the defaults. collectors lists every known collector and whether
// it is on by default; names that it lacks are faults in a file.
func New(collectors map[string]bool) *Config {
	c := &Config{
		Collectors: map[string]bool{},
		Limits: Limits{
			RingBytes: 8 << 20, Processes: 65536, Threads: 65536, ThreadsOverflow: 8192, SyscallErrors: 2048,
			Connections: 262144, Flows: 65536, UDPSockets: 32768, Endpoints: 16384, Containers: 4096, QueueEvents: 4096, QueueTextBytes: 1 << 20, TextBytes: 32 << 20,
			Series: 4096, SeriesIdle: time.Hour,
		},
		Runtime: Runtime{
			Networking: Networking{
				ExternalIPs:             ExternalIPs{Enabled: "ENABLED", Direction: "BOTH"},
				MaxConnectionsPerMinute: 2048,
				IgnoredNetworks:         []Prefix{mustPrefix("169.254.0.0/16"), mustPrefix("fe80::/10")},
				AfterglowPeriod:         300 * time.Second,
			},
			Processes: Processes{Arguments: true},
			Log:       Log{Level: "info"},
		},
		origins: map[string]Origin{},
	}
	maps.Copy(c.Collectors, collectors)
	return c
}

// ReadFile lays the file over what is there. A missing file is an error only if
// it was asked for by name.
func (c *Config) ReadFile(path string, named bool) error {
	file, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !named:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("read %s: no such file; create it or leave --config.file out", path)
	case err != nil:
		return err
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil {
		c.file = versionOf(info)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1)) // what is larger is refused
	if err != nil {
		return err
	}
	return c.Read(path, data)
}

// File tells which file was read; the zero value is none.
func (c *Config) File() FileVersion { return c.file }

// WithRuntime returns the configuration with the runtime part of another one, and
// with the origins of that part.
func (c *Config) WithRuntime(other *Config) *Config {
	now := *c
	now.Runtime, now.origins = other.Runtime, maps.Clone(c.origins)
	for _, v := range now.Values() {
		if Changeable(v.Key) {
			now.origins[v.Key] = other.Origin(v.Key)
		}
	}
	return &now
}

// Put returns the configuration with a YAML or JSON text with runtime keys laid over
// it. Keys that cannot change while the sensor runs are faults. Every fault is
// returned at once.
func (c *Config) Put(source string, text []byte) (*Config, error) {
	now := *c
	now.origins = maps.Clone(c.origins)
	err := decodeText(&decoder{source: source, origin: OriginPut, origins: now.origins}, text, now.Runtime.schema())
	return &now, err
}

// Changeable reports whether a key may change while the sensor runs.
func Changeable(key string) bool {
	f, ok := find(new(Runtime).schema(), key)
	return ok && f.set != nil
}
