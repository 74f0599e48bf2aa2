package sink

import (
	"bytes"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// acts are the tracepoints as which acts of few programs are told, by their points.
var acts = [event.Points]struct {
	subsystem, name string
	arguments       func(*lines, *event.Event)
}{
	event.ProcessFork:   {"sched", "sched_process_fork", (*lines).forked},
	event.ProcessMmap:   {"syscalls", "sys_exit_mmap", (*lines).mapped},
	event.ModuleLoad:    {"module", "module_load", (*lines).moduleLoaded},
	event.BPFLoad:       {"syscalls", "sys_exit_bpf", (*lines).programLoaded},
	event.SignalDeliver: {"signal", "signal_deliver", (*lines).signalled},
	event.OOMKill:       {"oom", "mark_victim", (*lines).victim},
}

func (t *lines) forked(ev *event.Event) {
	t.json.open('{')
	t.json.int("int_arg", int64(ev.Child.PID))
	t.json.close('}')
}

// file writes a path, empty for memory that is of no file.
func (t *lines) file(ev *event.Event) {
	j := &t.json
	j.open('{')
	j.object("file_arg")
	j.string("path", view(ev.Text(event.TextPath)))
	j.close('}')
	t.label("file")
}

func (t *lines) mapped(ev *event.Event) {
	t.file(ev)
	t.wide("size_arg", uint64(ev.File.Result), "addr")
	t.wide("size_arg", ev.File.Length, "length")
	t.narrow("uint_arg", int64(ev.File.Prot), "prot")
	t.wide("size_arg", ev.File.Inode, "inode")
}

func (t *lines) moduleLoaded(ev *event.Event) {
	t.file(ev)
	t.wideSigned(ev.File.Result, "result")
}

func (t *lines) programLoaded(ev *event.Event) {
	p := &ev.Program
	t.text(view(trimNUL(p.Name[:])), "name")
	t.narrow("uint_arg", int64(p.Type), "type")
	t.narrow("uint_arg", int64(p.ID), "id")
	t.wideSigned(int64(p.Result), "result")
}

func (t *lines) signalled(ev *event.Event) {
	s := &ev.Signal
	t.text(unix.SignalName(unix.Signal(s.Number)), "signal")
	t.narrow("uint_arg", int64(s.Number), "number")
	t.narrow("int_arg", int64(s.Code), "code")
	if s.Sender != 0 {
		t.narrow("uint_arg", int64(s.Sender), "sender_pid")
		t.narrow("uint_arg", int64(s.SenderUID), "sender_uid")
	}
}

func (t *lines) victim(ev *event.Event) {
	t.narrow("uint_arg", int64(ev.Child.PID), "pid")
	t.text(view(trimNUL(ev.Child.Comm[:])), "comm")
}

// trimNUL is a name without its padding.
func trimNUL(name []byte) []byte {
	name, _, _ = bytes.Cut(name, []byte{0})
	return name
}
