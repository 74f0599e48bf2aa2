package introspect

import (
	"time"

	"github.com/sonde-ebpf/sonde/internal/blackbox"
)

// BlackBox tells how earlier runs of the sensor ended, and which processes the OOM
// killer chose.
type BlackBox struct {
	Pinned       string        `json:"pinned"`             // directory of the programs that outlive the sensor, "" if there are none
	LastEnd      *blackbox.End `json:"last_end,omitempty"` // of the run before this one, whoever saw it; nil if none is known
	Terminations []Termination `json:"terminations"`
	Ends         []SensorEnd   `json:"ends"`      // the last ones that a program saw, the oldest first
	Kills        []OOMKill     `json:"oom_kills"` // the last ones, the oldest first
}

// Memory tells how the sensor keeps within its memory limit; sizes are bytes.
type Memory struct {
	Limit     uint64  `json:"limit_bytes,omitempty"`    // smallest of the own cgroup and those above
	Share     float64 `json:"share,omitempty"`          // of a limit, that is taken for good
	GoLimit   int64   `json:"go_limit_bytes,omitempty"` // the Go run time's part, if the sensor has set it
	ShedLevel int     `json:"shed_level"`
}

// Termination counts the runs that ended in one way.
type Termination struct {
	Reason string    `json:"reason"`
	Count  uint64    `json:"count"`
	Last   time.Time `json:"last,omitzero"`
}

// SensorEnd is the end of one run of the sensor.
type SensorEnd struct {
	Reason   string    `json:"reason"`
	Time     time.Time `json:"time,omitzero"`
	Since    time.Time `json:"since"`
	PID      uint32    `json:"pid"`
	ExitCode int       `json:"exit_code"`
	Signal   string    `json:"signal,omitempty"`
	Detail   string    `json:"detail"`
}

// OOMKill is one kill; sizes are bytes.
type OOMKill struct {
	Time   time.Time `json:"time"`
	Victim string    `json:"victim"` // sensor, other
	Scope  string    `json:"scope"`  // cgroup, global
	PID    uint32    `json:"pid"`
	UID    uint32    `json:"uid"`
	Comm   string    `json:"comm"`
	Anon   uint64    `json:"anon_bytes"`
	File   uint64    `json:"file_bytes"`
	Shmem  uint64    `json:"shmem_bytes"`
	Swap   uint64    `json:"swap_bytes"`
	Usage  uint64    `json:"cgroup_usage_bytes"`
	Limit  uint64    `json:"cgroup_limit_bytes,omitempty"`
}
