package introspect

import (
	"context"
	"iter"
	"log/slog"
	"time"

	"github.com/sonde-ebpf/sonde/internal/config"
	"github.com/sonde-ebpf/sonde/internal/logging"
	"github.com/sonde-ebpf/sonde/internal/profile"
	"github.com/sonde-ebpf/sonde/internal/sink"
	"github.com/sonde-ebpf/sonde/internal/state"
	"github.com/sonde-ebpf/sonde/internal/stream"
)

// Sources is where the answers come from. All of them may be asked at any time,
// from any goroutine. A route whose source is nil answers 503.
type Sources struct {
	Ready       func() Readiness
	Connections Connections
	Endpoints   Endpoints
	Processes   Processes
	Containers  Containers
	Runtime     Runtime
	Pipeline    func() Pipeline
	Trace       Trace
	// Machine describes the processes of events.
	Machine sink.Machine
	// Stopping is closed when the sensor begins to stop: streams of events end.
	Stopping <-chan struct{}
	Sensor   func() Sensor
	Levels   Levels
	// Self takes profiles of the sensor itself.
	Self *profile.Self
	// Pages keeps the last profiles and shows them to browsers.
	Pages *profile.Pages
	// Node takes profiles of the whole node.
	Node NodeProfiles
	// Wall turns a time of CLOCK_BOOTTIME into one that people know.
	Wall func(bootNS uint64) time.Time
}

// Connections answers who talks to whom.
type Connections interface {
	Connections(state.Query) (total int, rows iter.Seq[*state.Connection])
}

// Endpoints answers who listens.
type Endpoints interface {
	Endpoints(state.Query) (total int, rows []state.Endpoint)
}

// Processes answers what runs.
type Processes interface {
	Processes(state.Query) (total int, rows iter.Seq[*state.Process])
	Process(pid uint32) (state.Process, bool)
}

// Trace answers which sessions there are, and changes them.
type Trace interface {
	Sessions() []stream.SessionStat
	// CreateSession begins the session that text describes. missing is what it asks
	// for and was passed over.
	CreateSession(text []byte) (name string, missing []string, err error)
	// DeleteSession ends one and returns its last ledger.
	DeleteSession(ctx context.Context, name string) (stream.SessionStat, error)
	// Follow begins a session for a client that asks for events, named after its kind.
	Follow(kind string, points []stream.Point, to stream.Sink) (name string, err error)
	// SinkKinds are the kinds of sinks that a session may name.
	SinkKinds() []string
}

// Containers answers which containers there are.
type Containers interface {
	// Containers lists them, ordered by id.
	Containers() []Container
	// Container finds one by its whole id or by its first twelve characters.
	Container(id string) (Container, bool)
}

// Container is what is known of a container.
type Container struct {
	ID         string `json:"id"` // whole
	Namespace  string `json:"namespace"`
	Pod        string `json:"pod"`
	Name       string `json:"name"`
	Image      string `json:"image"`
	Runtime    string `json:"runtime"`
	Cgroup     string `json:"cgroup"`
	Enrichment string `json:"enrichment"` // how the look-up of the rest went
}

// Runtime answers how the sensor is configured, and changes what may change.
type Runtime interface {
	RuntimeConfig() RuntimeConfig
	// PutRuntimeConfig lays a YAML or JSON text with the runtime keys over the
	// configuration. source says who asked. On an error nothing has changed; it
	// joins every fault there is.
	PutRuntimeConfig(text []byte, source string) error
}

// RuntimeConfig is the configuration in force.
type RuntimeConfig struct {
	Values     []config.Value // every key of the file
	Generation uint64
	Source     string
	Time       time.Time // when it came into force
	LastError  error     // why the last change was refused, nil if it was not

	LastErrorTime time.Time
}

// NodeProfiles takes profiles of the node, one at a time.
type NodeProfiles interface {
	Record(context.Context, profile.Request) ([]byte, error)
}

// Levels holds the log levels.
type Levels interface {
	Spec() logging.Spec
	Set(logging.Spec)
	Targets() map[string]slog.Level
}

// Readiness tells whether the sensor does its work. Without reasons against it, it
// is ready.
type Readiness struct {
	Node    string
	Events  uint64 // taken from the kernel
	Drops   Drops
	Reasons []string
}

// Drops counts events that were lost.
type Drops struct {
	Total      uint64 `json:"total"`
	RingBuffer uint64 `json:"ringbuffer"` // the ring was full
	Decode     uint64 `json:"decode"`
	Session    uint64 `json:"session"`
	Sink       uint64 `json:"sink"`
}

// Pipeline is the way of the events, from the probes to the sinks: the same numbers
// as in the metrics.
type Pipeline struct {
	Probes   []PipelineProbe   `json:"probes"`
	Rings    []PipelineRing    `json:"rings"`
	Points   []PipelinePoint   `json:"points"`
	Reader   PipelineReader    `json:"reader"`
	Canary   PipelineCanary    `json:"canary"`
	Sessions []PipelineSession `json:"sessions"`
	State    []PipelineTable   `json:"state"`
	BlackBox BlackBox          `json:"black_box"`
	GVisor   *PipelineGVisor   `json:"gvisor,omitempty"` // nil where none are received
	Reports  PipelineReports   `json:"reports"`
	Memory   Memory            `json:"memory"`
}

// PipelineProbe is one probe.
type PipelineProbe struct {
	Probe    string `json:"probe"`
	Attached bool   `json:"attached"`
	Attach   string `json:"attach,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

// PipelineRing is one ring buffer, in bytes.
type PipelineRing struct {
	Ring string `json:"ring"`
	Size uint64 `json:"size_bytes"`
	Used uint64 `json:"used_bytes"`
}

// PipelinePoint is the ledger of one point.
type PipelinePoint struct {
	Point     string `json:"point"`
	Attempted uint64 `json:"attempted"`
	Submitted uint64 `json:"submitted"`
	Dropped   uint64 `json:"dropped"`
	Decoded   uint64 `json:"decoded"`
}

// PipelineReader is the ledger of the ring's reader.
type PipelineReader struct {
	Read        uint64 `json:"read"`
	Undecodable uint64 `json:"undecodable"`
}

// PipelineCanary is the ledger of the events that the sensor makes itself.
type PipelineCanary struct {
	Arrived uint64 `json:"arrived"`
	Lost    uint64 `json:"lost"`
}

// PipelineSession is the ledger of one session with one sink.
type PipelineSession struct {
	Session   string `json:"session"`
	Sink      string `json:"sink"`
	Matched   uint64 `json:"matched"`
	Delivered uint64 `json:"delivered"`
	Filtered  uint64 `json:"filtered"`
	Dropped   uint64 `json:"dropped"`
	Queued    int    `json:"queued"`
	Capacity  int    `json:"capacity"`
}

// PipelineReports counts what was reported of connections, the afterglow considered.
type PipelineReports struct {
	Active   uint64 `json:"active"`   // that they are there
	Ended    uint64 `json:"ended"`    // that they are not any more
	Deferred uint64 `json:"deferred"` // that had to wait for the limit of their container
	Missed   uint64 `json:"missed"`   // for want of room
}

// PipelineTable is the fill of one table of the state.
type PipelineTable struct {
	Table     string `json:"table"`
	Entries   int    `json:"entries"`
	Max       int    `json:"max_entries"`
	Evictions uint64 `json:"evictions"`
	Drift     uint64 `json:"drift"`
}

// Sensor is the sensor itself: which one it is, where it can be reached, and what it
// costs. What is not known is absent.
type Sensor struct {
	Version   string    `json:"version"`
	Revision  string    `json:"revision"`
	GoVersion string    `json:"goversion"`
	Node      string    `json:"node"`
	Kernel    string    `json:"kernel"`
	PID       int       `json:"pid"`
	Started   time.Time `json:"started"`
	// Addresses are those of its listeners, by listener: metrics, introspect.
	Addresses map[string][]string `json:"addresses"`
	CPURatio  *float64            `json:"cpu_ratio,omitempty"` // of one core, since the start
	Memory    SensorMemory        `json:"memory"`
	Rules     SensorRules         `json:"rules"`
	Programs  []SensorProgram     `json:"programs"`
	Maps      []SensorMap         `json:"maps"`
}

// SensorRules is the set of detection rules in force.
type SensorRules struct {
	Rules   int    `json:"rules"`
	Version string `json:"version"` // empty where there are none
	Hash    string `json:"hash"`
}

// SensorMemory is the memory of the sensor in bytes.
type SensorMemory struct {
	Sensor *uint64 `json:"sensor_bytes,omitempty"` // its own memory and that of its BPF maps
	BPF    *uint64 `json:"bpf_bytes,omitempty"`    // the maps' share
	Usage  *uint64 `json:"cgroup_usage_bytes,omitempty"`
	Limit  *uint64 `json:"cgroup_limit_bytes,omitempty"` // absent also where there is none
}

// SensorProgram is the cost of one BPF program. Runs and their time only grow while
// run-time statistics are on.
type SensorProgram struct {
	Program string  `json:"program"`
	Runs    uint64  `json:"runs"`
	Seconds float64 `json:"run_seconds"`
	Missed  uint64  `json:"missed"`
}

// SensorMap is one BPF map.
type SensorMap struct {
	Map        string  `json:"map"`
	Entries    *uint64 `json:"entries,omitempty"` // absent where the kernel does not count them
	MaxEntries uint64  `json:"max_entries"`
	Memory     uint64  `json:"memory_bytes"`
	Failures   uint64  `json:"update_failures"`
}
