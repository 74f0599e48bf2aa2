package stream

import (
	"bytes"
	"slices"
	"strings"
	"unsafe"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// Filter says which events of a point are wanted: those for which every list that
// is not empty has a member that fits. The zero value wants all.
type Filter struct {
	PIDs    []uint32 `json:"pid,omitempty"`       // of the process
	Trees   []uint32 `json:"pid_tree,omitempty"`  // of the process, or of one above it
	UIDs    []uint32 `json:"uid,omitempty"`       // real user id
	Cgroups []uint64 `json:"cgroup_id,omitempty"` // in the unified hierarchy
	Names   []string `json:"comm,omitempty"`      // of the thread
	// Containers are ids, or beginnings of them; Host for what is in none.
	Containers []string `json:"container,omitempty"`
	Binaries   []string `json:"binary_prefix,omitempty"` // of the file that the process executes
	Paths      []string `json:"path_prefix,omitempty"`   // of the file that the event is about
	Args       []string `json:"argument,omitempty"`      // one of the arguments is that
	Rules      []string `json:"rule,omitempty"`          // it fits one of these rules; AnyRule for all of them
}

// Host stands in a filter for what is in no container.
const Host = "host"

// below reports whether the process of an event, or one above it, has one of some pids.
type below func(ev *event.Event, pids []uint32) bool

// wants reports whether the event fits. It does not allocate.
func (f *Filter) wants(ev *event.Event, below below) bool {
	return (len(f.PIDs) == 0 || slices.Contains(f.PIDs, ev.Process.PID)) &&
		(len(f.UIDs) == 0 || slices.Contains(f.UIDs, ev.Process.UID)) &&
		(len(f.Cgroups) == 0 || slices.Contains(f.Cgroups, ev.Process.CgroupID)) &&
		(len(f.Trees) == 0 || below(ev, f.Trees)) &&
		(len(f.Containers) == 0 || inContainer(ev.Container(), f.Containers)) &&
		(len(f.Binaries) == 0 || hasPrefix(binary(ev), f.Binaries)) &&
		(len(f.Names) == 0 || slices.Contains(f.Names, string(ev.Process.Name()))) &&
		(len(f.Paths) == 0 || hasPrefix(ev.Executable(), f.Paths)) &&
		(len(f.Args) == 0 || hasArgument(ev.Text(event.TextArgs), f.Args)) &&
		(len(f.Rules) == 0 || hasRule(ev.Rules, f.Rules))
}

// AnyRule stands for every detection rule in a filter.
const AnyRule = "*"

func hasRule(marks []*event.Rule, wanted []string) bool {
	return slices.ContainsFunc(marks, func(r *event.Rule) bool {
		return slices.Contains(wanted, r.Name) || slices.Contains(wanted, AnyRule)
	})
}

func inContainer(id string, wanted []string) bool {
	return slices.ContainsFunc(wanted, func(w string) bool {
		if id == "" {
			return w == Host
		}
		return w != "" && strings.HasPrefix(id, w)
	})
}

// binary is the file that the process of an event executes.
func binary(ev *event.Event) []byte {
	if exe := ev.Executable(); ev.Point == event.ProcessExec && len(exe) > 0 {
		return exe
	}
	exe := ev.Subject.Process.Exe
	return unsafe.Slice(unsafe.StringData(exe), len(exe)) // read, never written
}

func trimNUL(b []byte) []byte {
	b, _, _ = bytes.Cut(b, []byte{0})
	return b
}

func hasPrefix(path []byte, prefixes []string) bool {
	for _, p := range prefixes {
		if len(path) >= len(p) && string(path[:len(p)]) == p {
			return true
		}
	}
	return false
}

func hasArgument(args []byte, wanted []string) bool {
	for len(args) > 0 {
		arg := trimNUL(args)
		if slices.Contains(wanted, string(arg)) {
			return true
		}
		args = args[min(len(arg)+1, len(args)):]
	}
	return false
}
