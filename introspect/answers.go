package introspect

import (
	"strings"
	"time"

	"github.com/sonde-ebpf/sonde/internal/config"
	"github.com/sonde-ebpf/sonde/internal/logging"
	"github.com/sonde-ebpf/sonde/internal/state"
)

// This file has the shapes of answers that are more than what a source returns.
// Whoever asks decodes these same types.

// ReadyAnswer is the answer of GET /ready, whatever its status.
type ReadyAnswer struct {
	Collector struct {
		Drops  Drops  `json:"drops"`
		Events uint64 `json:"events"`
		Node   string `json:"node"`
	} `json:"collector"`
	Error   string   `json:"error,omitempty"`
	Reasons []string `json:"reasons,omitempty"`
	Status  string   `json:"status"` // "ok" where there are no reasons
}

// ContainerAnswer is a container with the id that other answers know it by.
type ContainerAnswer struct {
	ContainerID string `json:"container_id"`
	Container
}

// ProcessAnswer is one process.
type ProcessAnswer struct {
	PID       uint32           `json:"pid"`
	PPID      uint32           `json:"ppid"`
	Container string           `json:"container"`
	Comm      string           `json:"comm"`
	Exe       string           `json:"exe"`
	Args      []string         `json:"args,omitempty"` // absent where arguments are not kept
	UID       uint32           `json:"uid"`
	LoginUID  *uint32          `json:"loginuid,omitempty"`
	Cgroup    uint64           `json:"cgroup,omitempty"`
	Start     time.Time        `json:"start,omitzero"`
	Exited    time.Time        `json:"exited,omitzero"`
	Lineage   []AncestorAnswer `json:"lineage"` // parent first
}

// AncestorAnswer is a process that another one descends from.
type AncestorAnswer struct {
	PID    uint32 `json:"pid"`
	Comm   string `json:"comm"`
	Exe    string `json:"exe"`
	Exited bool   `json:"exited,omitempty"`
}

func processAnswer(row *state.Process, wall func(uint64) time.Time) *ProcessAnswer {
	a := &ProcessAnswer{
		PID: row.PID, PPID: row.PPID, Container: row.Container, Comm: row.Comm, Exe: row.Exe, Args: arguments(row.Args),
		UID: row.UID, Cgroup: row.Cgroup, Start: wallTime(wall, row.StartNS), Exited: wallTime(wall, row.ExitedNS),
		Lineage: make([]AncestorAnswer, len(row.Lineage)),
	}
	if row.LoginUID != state.NoLoginUID {
		a.LoginUID = &row.LoginUID
	}
	for i, l := range row.Lineage {
		a.Lineage[i] = AncestorAnswer{l.PID, l.Comm, l.Exe, l.Exited}
	}
	return a
}

// RuntimeConfigAnswer is what GET /state/runtime-config tells besides the values,
// which stand beside it as the configuration file writes them.
type RuntimeConfigAnswer struct {
	Origins map[string]config.Origin `json:"origins"`
	Status  ConfigStatus             `json:"status"`
}

// ConfigStatus tells which configuration is in force, and how the last change went.
type ConfigStatus struct {
	Generation uint64    `json:"generation"`
	Source     string    `json:"source"`
	Time       time.Time `json:"time,omitzero"` // when it came into force
	// LastError is why the last change was refused, nil if it was not.
	LastError     *string   `json:"last_error"`
	LastErrorTime time.Time `json:"last_error_time,omitzero"`
}

// LevelsAnswer is the answer of GET /loglevel.
type LevelsAnswer struct {
	Level   string            `json:"level"` // of every target without one of its own
	Spec    string            `json:"spec"`  // as the log levels are written
	Status  string            `json:"status"`
	Targets map[string]string `json:"targets"` // every target that logs, with its level
}

func levelsAnswer(l Levels) LevelsAnswer {
	spec := l.Spec()
	a := LevelsAnswer{Level: strings.ToUpper(spec.Default()), Spec: spec.String(), Status: "Ok", Targets: map[string]string{}}
	for target, level := range l.Targets() {
		a.Targets[target] = logging.LevelName(level)
	}
	return a
}
