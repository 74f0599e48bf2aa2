package sink

import (
	"strconv"

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
	event.FileOpen:      {"syscalls", "sys_exit_openat", (*lines).opened},
	event.ProcessSetns:  {"syscalls", "sys_exit_setns", (*lines).joined},
	event.SignalDeliver: {"signal", "signal_deliver", (*lines).signalled},
	event.OOMKill:       {"oom", "mark_victim", (*lines).victim},

	event.NetworkReport:  {policyName, "network_report", (*lines).reported},
	event.ContainerStart: {policyName, "container_start", (*lines).contained},
	event.ContainerStop:  {policyName, "container_stop", (*lines).contained},
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

func (t *lines) opened(ev *event.Event) {
	t.file(ev)
	t.wideSigned(ev.File.Result, "result")
	access := "read"
	if ev.File.Writable {
		access = "write"
	}
	t.text(access, "access")
	t.narrow("uint_arg", int64(ev.File.Mode), "mode")
	t.wide("size_arg", ev.File.Inode, "inode")
}

func (t *lines) joined(ev *event.Event) {
	t.narrow("uint_arg", int64(ev.Setns.Types), "types")
	t.narrow("uint_arg", int64(ev.Setns.Namespaces.Mnt), "mount_namespace")
	t.wideSigned(int64(ev.Setns.Result), "result")
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

// reported tells what is new about a connection, under names.
func (t *lines) reported(ev *event.Event) {
	j, c := &t.json, &ev.Conn
	now, direction, port := "ended", "outbound", c.RemotePort
	if ev.Report.Active {
		now = "active"
	}
	if c.Inbound {
		direction, port = "inbound", c.LocalPort
	}
	t.text(now, "state")
	t.text(direction, "direction")
	t.narrow("uint_arg", int64(c.Protocol), "protocol")
	t.narrow("uint_arg", int64(port), "port")
	j.open('{')
	j.key("string_arg")
	j.b = append(j.b, '"')
	peer := address(c.Family, c.Remote)
	j.b = peer.AppendTo(j.b)
	if bits := int(ev.Report.PeerBits); bits < peer.BitLen() {
		j.b = strconv.AppendInt(append(j.b, '/'), int64(bits), 10)
	}
	j.b = append(j.b, '"')
	j.next = true
	t.label("peer")
	j.open('{')
	j.time("string_arg", t.wall(ev.Report.LastNS))
	t.label("last_active")
	if network := ev.Text(event.TextNetwork); len(network) > 0 {
		t.text(view(network), "network")
	}
}

// contained tells what a container is called.
func (t *lines) contained(ev *event.Event) {
	c := t.machine.Container(ev.Container())
	for _, named := range []struct{ text, label string }{{c.ID, "container"}, {c.Name, "name"}, {c.Image, "image"}, {c.Namespace, "namespace"}, {c.Pod, "pod"}} {
		if named.text != "" {
			t.text(named.text, named.label)
		}
	}
}
