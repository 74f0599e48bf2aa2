package stream

import (
	"bytes"
	"slices"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// Filter says which events of a point are wanted: those for which every list that
// is not empty has a member that fits. The zero value wants all.
type Filter struct {
	PIDs    []uint32 `json:"pid,omitempty"`       // of the process
	UIDs    []uint32 `json:"uid,omitempty"`       // real user id
	Cgroups []uint64 `json:"cgroup_id,omitempty"` // in the unified hierarchy
	Names   []string `json:"comm,omitempty"`      // of the thread
	Paths   []string `json:"path_prefix,omitempty"`
	Args    []string `json:"argument,omitempty"` // one of the arguments is that
	Rules   []string `json:"rule,omitempty"`     // it fits one of these rules; AnyRule for all of them
}

// wants reports whether the event fits. It does not allocate.
func (f *Filter) wants(ev *event.Event) bool {
	return (len(f.PIDs) == 0 || slices.Contains(f.PIDs, ev.Process.PID)) &&
		(len(f.UIDs) == 0 || slices.Contains(f.UIDs, ev.Process.UID)) &&
		(len(f.Cgroups) == 0 || slices.Contains(f.Cgroups, ev.Process.CgroupID)) &&
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
