package rules

import (
	"bytes"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// maxFields bounds the table of fields, so that a view is of one piece.
const maxFields = 96

// view is an event as conditions see it. What one rule has asked for is there for the
// next. It is for one goroutine at a time.
type view struct {
	self       Self
	ev         *event.Event
	unreadable bool // something was asked for that the kernel could not read
	values     [maxFields]ref.Val
	asked      [maxFields]bool
	blind      [maxFields]bool // it could not be read
}

func (v *view) begin(ev *event.Event) { v.ev = ev }

// end lets go of the event.
func (v *view) end() { *v = view{self: v.self} }

// ResolveName implements cel.Activation.
func (v *view) ResolveName(name string) (any, bool) {
	i, ok := fieldIndex[name]
	if !ok {
		return nil, false
	}
	if !v.asked[i] {
		before := v.unreadable
		v.unreadable = false
		v.values[i], v.asked[i], v.blind[i] = fields[i].value(v), true, v.unreadable
		v.unreadable = v.unreadable || before
	}
	v.unreadable = v.unreadable || v.blind[i]
	return v.values[i], true
}

// Parent implements cel.Activation.
func (v *view) Parent() cel.Activation { return nil }

// text is a text of the event; the view remembers if there is one that is unreadable.
func (v *view) text(t event.Text) []byte {
	v.unreadable = v.unreadable || v.ev.Texts[t].Unreadable
	return v.ev.Text(t)
}

// exe is the file that the process executes: what an exec says itself, else what is
// known of the process.
func (v *view) exe() string {
	if v.ev.Point == event.ProcessExec {
		return shown(v.text(event.TextExe))
	}
	return v.ev.Subject.Process.Exe
}

func (v *view) seesHostMounts(n *event.Namespaces) bool {
	return v.self.HostMount != 0 && n.Mnt == v.self.HostMount
}

// arguments are those of a program, each as it was given.
func (v *view) arguments() ref.Val {
	var all []string
	rest := bytes.TrimSuffix(v.text(event.TextArgs), []byte{0})
	for more := len(rest) > 0; more && len(all) < maxArgs; {
		var arg []byte
		arg, rest, more = bytes.Cut(rest, []byte{0})
		all = append(all, shown(arg))
	}
	return types.NewStringList(types.DefaultTypeAdapter, all)
}
