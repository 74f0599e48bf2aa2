package sink

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// lines writes events as the JSON lines of Tetragon's export: what reads those
// reads ours. What happens to processes has its own form there; everything else is
// told as the kernel function or the tracepoint that Tetragon would see it by, under
// the policy name "sonde" and with the point as its message.
type lines struct {
	machine Machine
	choice  *Choice   // what of events is told
	boot    time.Time // of the machine, as it was asked last
	json    json
	scratch []byte // an identity before it is encoded
	actors  actors
}

func newLines(m Machine, c *Choice) lines { return lines{machine: m, choice: c, boot: m.Boot()} }

// line appends one event and its newline.
func (t *lines) line(ev *event.Event) {
	j := &t.json
	j.next = false
	j.open('{')
	switch ev.Point {
	case event.ProcessExec:
		t.payload(ev, "process_exec")
	case event.ProcessExit:
		t.payload(ev, "process_exit")
		if ev.Exit.Signal != 0 {
			j.string("signal", unix.SignalName(unix.Signal(ev.Exit.Signal)))
		}
		if ev.Exit.Code != 0 {
			j.uint("status", uint64(ev.Exit.Code))
		}
		j.time("time", t.wall(ev.TimeNS))
	case event.Syscall:
		t.call(ev)
	case event.NetworkConnect, event.NetworkAccept, event.NetworkClose, event.NetworkListen:
		t.connection(ev)
	default:
		a := &acts[ev.Point]
		t.tracepoint(ev, a.subsystem, a.name, a.arguments)
	}
	j.close('}')
	j.string("node_name", t.machine.Node())
	j.time("time", t.wall(ev.TimeNS))
	t.labels(ev)
	j.close('}')
	j.b = append(j.b, '\n')
}

// Labels by which an event tells of the detection rules that it fits, and where it is
// from. Tetragon's form has no place of its own for that which every kind of event has.
const (
	LabelRule      = "sonde.rule"      // names, with commas between them
	LabelSeverity  = "sonde.severity"  // the worst
	LabelTechnique = "sonde.technique" // of MITRE ATT&CK, one for each rule
	LabelSource    = "sonde.source"    // gvisor: the event is from the kernel of a sandbox
	LabelDigest    = "sonde.sha256"    // of the executed file, hexadecimal
)

func (t *lines) labels(ev *event.Event) {
	var digest []byte
	if ev.Fields&event.FieldDigest != 0 {
		digest = ev.Text(event.TextDigest)
	}
	if len(ev.Rules) == 0 && ev.Source == event.SourceKernel && len(digest) == 0 {
		return
	}
	j := &t.json
	j.object("node_labels")
	if ev.Source != event.SourceKernel {
		j.string(LabelSource, ev.Source.String())
	}
	if len(digest) > 0 {
		j.hex(LabelDigest, digest)
	}
	if len(ev.Rules) > 0 {
		t.marks(ev.Rules)
	}
	j.close('}')
}

func (t *lines) marks(rules []*event.Rule) {
	j, worst := &t.json, event.Low
	for _, r := range rules {
		worst = max(worst, r.Severity)
	}
	t.listed(LabelRule, rules, func(r *event.Rule) string { return r.Name })
	j.string(LabelSeverity, worst.String())
	t.listed(LabelTechnique, rules, func(r *event.Rule) string { return r.Technique })
}

func (t *lines) listed(name string, rules []*event.Rule, of func(*event.Rule) string) {
	j := &t.json
	j.key(name)
	j.b = append(j.b, '"')
	for i, r := range rules {
		if i > 0 {
			j.b = append(j.b, ',')
		}
		j.b = append(j.b, of(r)...)
	}
	j.b = append(j.b, '"')
	j.next = true
}

func (t *lines) wall(bootNS uint64) time.Time { return t.boot.Add(time.Duration(bootNS)) }

// payload begins the member that is the event itself: its process and the parent.
func (t *lines) payload(ev *event.Event, name string) {
	t.json.pruned(name, t.choice.shapeOf(KindOf(ev.Point)))
	p, known := actorOf(ev)
	parent, j := &ev.Subject.Parent, &t.json
	told := t.told(&p, parent.ExecID, known)
	j.object("process")
	if !became(ev) && len(ev.Text(event.TextContainer)) == 0 {
		t.remembered(&told)
	} else {
		t.actor(ev, &told)
	}
	j.uint("tid", uint64(ev.Process.TID))
	if became(ev) {
		t.became(ev)
	}
	j.close('}')
	if parent.PID != 0 {
		told = t.told(parent, ev.Subject.Grandparent, true)
		j.object("parent")
		t.remembered(&told)
		j.uint("tid", uint64(parent.PID))
		j.close('}')
	}
	if ev.Fields&event.FieldAncestors != 0 {
		t.ancestors(ev)
	}
}

// ancestors writes those beyond the parent, the nearest first.
func (t *lines) ancestors(ev *event.Event) {
	j := &t.json
	if len(ev.Text(event.TextAncestors)) == 0 {
		return
	}
	j.key("ancestors")
	j.open('[')
	for id, exe := range ev.Ancestors {
		j.open('{')
		t.identity("exec_id", id)
		j.uint("pid", uint64(id.PID))
		j.string("binary", view(exe))
		j.close('}')
	}
	j.close(']')
}

// told gathers what decides how a process is told of.
func (t *lines) told(p *event.Actor, parent event.ExecID, known bool) toldActor {
	told := toldActor{Actor: *p, parent: parent, known: known, boot: t.boot}
	if p.Container != "" {
		told.container = t.machine.Container(p.Container)
	}
	return told
}

// actorOf is the process of an event, with what the event itself says of it, and whether
// it is known.
func actorOf(ev *event.Event) (p event.Actor, known bool) {
	p = ev.Subject.Process
	if known = p.PID != 0; !known {
		p = event.Actor{ExecID: event.ExecID{PID: ev.Process.PID, ExecNS: ev.Process.StartNS}, LoginUID: ^uint32(0)}
	}
	p.UID, p.Container = ev.Process.UID, ev.Container()
	if became(ev) {
		p.Exe, p.Args, p.Cwd = view(ev.Executable()), view(ev.Text(event.TextArgs)), view(ev.Text(event.TextCwd))
		p.ExecNS, p.Forked, known = ev.TimeNS, false, true
	}
	return p, known
}

// became reports whether an event tells how its process became what it is: that of one
// from before the sensor nobody saw.
func became(ev *event.Event) bool {
	return ev.Point == event.ProcessExec && !ev.Subject.Process.Seeded
}

// view shows a text of an event as a string, for as long as the event lives.
func view(text []byte) string { return unsafe.String(unsafe.SliceData(text), len(text)) }

// actor writes the members that a process has whatever it does; ev is its own event if
// that tells more of it.
func (t *lines) actor(ev *event.Event, told *toldActor) {
	j, p := &t.json, &told.Actor
	t.identity("exec_id", p.ExecID)
	j.uint("pid", uint64(p.PID))
	j.uint("uid", uint64(p.UID))
	j.string("cwd", p.Cwd)
	t.binary(p)
	t.arguments(p.Args)
	t.flags(ev, p, told.known)
	j.time("start_time", t.wall(p.ExecNS))
	j.uint("auid", uint64(p.LoginUID))
	if p.Container != "" {
		t.pod(&told.container)
		j.string("docker", shortID(p.Container))
	}
	if told.parent.PID != 0 {
		t.identity("parent_exec_id", told.parent)
	}
}

// identity is the name of a process that never repeats: node, time and pid.
func (t *lines) identity(name string, of event.ExecID) {
	t.scratch = append(t.scratch[:0], t.machine.Node()...)
	t.scratch = strconv.AppendUint(append(t.scratch, ':'), of.ExecNS, 10)
	t.scratch = strconv.AppendUint(append(t.scratch, ':'), uint64(of.PID), 10)
	t.json.base64(name, t.scratch)
}

// binary writes the path of the program.
func (t *lines) binary(p *event.Actor) {
	t.scratch = appendBinary(t.scratch[:0], p)
	t.json.string("binary", view(t.scratch))
}

// appendBinary appends the path of a program; one that was given relatively is seen from
// the working directory.
func appendBinary(b []byte, p *event.Actor) []byte {
	if p.Exe == "" {
		return b
	}
	if p.Exe[0] != '/' && strings.HasPrefix(p.Cwd, "/") {
		b = append(b, p.Cwd...)
		if p.Cwd != "/" {
			b = append(b, '/')
		}
	}
	return append(b, strings.TrimPrefix(p.Exe, "./")...)
}

// arguments writes the arguments after the zeroth.
func (t *lines) arguments(args string) {
	t.scratch = appendArguments(t.scratch[:0], args)
	t.json.string("arguments", view(t.scratch))
}

// appendArguments appends the arguments after the zeroth, separated by spaces, those with
// a space in quotes.
func appendArguments(b []byte, args string) []byte {
	_, rest, more := strings.Cut(strings.TrimSuffix(args, "\x00"), "\x00")
	for more {
		var arg string
		arg, rest, more = strings.Cut(rest, "\x00")
		if arg == "" || strings.IndexByte(arg, ' ') >= 0 || strings.IndexByte(arg, '\t') >= 0 {
			b = append(append(append(b, '"'), arg...), '"')
		} else {
			b = append(b, arg...)
		}
		if more {
			b = append(b, ' ')
		}
	}
	return b
}

// flags says in words how the process came to be, and what of it could not be read.
func (t *lines) flags(ev *event.Event, p *event.Actor, known bool) {
	word := "execve"
	switch {
	case !known:
		word = "unknown"
	case p.Seeded:
		word = "procFS"
	case p.Forked:
		word = "clone"
	}
	j := &t.json
	j.key("flags")
	j.b = append(append(j.b, '"'), word...)
	if p.Cwd == "/" {
		j.b = append(j.b, " rootcwd"...)
	}
	if ev != nil && ev.Point == event.ProcessExec {
		for _, f := range textFlags {
			if s := ev.Texts[f.text]; s.Truncated {
				j.b = append(j.b, f.truncated...)
			} else if s.Unreadable {
				j.b = append(j.b, f.unreadable...)
			}
		}
	}
	j.b = append(j.b, '"')
	j.next = true
}

var textFlags = [event.TextKinds]struct {
	text                  event.Text
	truncated, unreadable string
}{
	{event.TextPath, " truncFilename", " errorFilename"},
	{event.TextArgs, " truncArgs", " errorArgs"},
	{event.TextCwd, " errorPathResolutionCwd", " errorCWD"},
}

// shortID is the id of a container, as long as lines tell it.
func shortID(id string) string { return id[:min(31, len(id))] }

func (t *lines) pod(c *Container) {
	if c.Pod == "" {
		return
	}
	j := &t.json
	j.object("pod")
	j.string("namespace", c.Namespace)
	j.string("name", c.Pod)
	j.object("container")
	j.string("id", c.ID)
	j.string("name", c.Name)
	if c.Image != "" {
		j.object("image")
		j.string("name", c.Image)
		j.close('}')
	}
	j.close('}')
	j.close('}')
}

// became writes what an exec tells of the new program, as far as the session asked.
func (t *lines) became(ev *event.Event) {
	j, x := &t.json, &ev.Exec
	if ev.Fields&event.FieldCapabilities != 0 {
		j.object("cap")
		t.capabilities("permitted", x.Credentials.Permitted)
		t.capabilities("effective", x.Credentials.Effective)
		t.capabilities("inheritable", x.Credentials.Inheritable)
		j.close('}')
	}
	if ev.Fields&event.FieldNamespaces != 0 {
		t.namespaces(&x.Namespaces)
	}
	if ev.Fields&event.FieldCredentials != 0 {
		t.credentials(&x.Credentials)
	}
	t.properties(ev)
	if ev.Fields&event.FieldEnvironment != 0 {
		t.environment(ev.Text(event.TextEnv))
	}
}

// environment writes variables that each end in a NUL; what has no name is left out.
func (t *lines) environment(env []byte) {
	j := &t.json
	j.key("environment_variables")
	j.open('[')
	for len(env) > 0 {
		var one []byte
		one, env, _ = bytes.Cut(env, []byte{0})
		if name, value, ok := bytes.Cut(one, []byte{'='}); ok {
			j.open('{')
			j.string("Key", view(name))
			j.string("Value", view(value))
			j.close('}')
		}
	}
	j.close(']')
}

func (t *lines) capabilities(name string, set uint64) {
	j := &t.json
	if set == 0 {
		return
	}
	j.key(name)
	j.open('[')
	for c, word := range capabilityNames {
		if set&(1<<c) != 0 {
			j.comma()
			j.b = append(append(append(j.b, '"'), word...), '"')
		}
	}
	j.close(']')
}

func (t *lines) namespaces(n *event.Namespaces) {
	j := &t.json
	j.object("ns")
	for _, ns := range [...]struct {
		name  string
		inode uint32
	}{
		{"uts", n.UTS}, {"ipc", n.IPC}, {"mnt", n.Mnt}, {"pid", n.PID}, {"pid_for_children", n.PIDForChildren},
		{"net", n.Net}, {"time", n.Time}, {"time_for_children", n.TimeForChildren}, {"cgroup", n.Cgroup}, {"user", n.User},
	} {
		if ns.inode == 0 {
			continue
		}
		j.object(ns.name)
		j.uint("inum", uint64(ns.inode))
		j.close('}')
	}
	j.close('}')
}

func (t *lines) credentials(c *event.Credentials) {
	j := &t.json
	j.object("process_credentials")
	for _, id := range [...]struct {
		name string
		id   uint32
	}{
		{"uid", c.UID}, {"gid", c.GID}, {"euid", c.EUID}, {"egid", c.EGID},
		{"suid", c.SUID}, {"sgid", c.SGID}, {"fsuid", c.FSUID}, {"fsgid", c.FSGID},
	} {
		j.uint(id.name, uint64(id.id))
	}
	j.close('}')
}

// properties writes what makes an exec remarkable: it changed who the process is, or
// its file has no name any more.
func (t *lines) properties(ev *event.Event) {
	j, c := &t.json, &ev.Exec.Credentials
	setuid, setgid := c.EUID != c.UID, c.EGID != c.GID
	if !setuid && !setgid && ev.Exec.Links != 0 {
		return
	}
	j.object("binary_properties")
	if setuid {
		j.uint("setuid", uint64(c.EUID))
	}
	if setgid {
		j.uint("setgid", uint64(c.EGID))
	}
	if ev.Exec.Links == 0 {
		j.object("file")
		j.object("inode")
		j.uint64("number", ev.Exec.Inode)
		j.uint("links", 0)
		j.close('}')
		j.close('}')
	}
	j.close('}')
}

// tracepoint begins and fills an event of Tetragon's kind of that name.
func (t *lines) tracepoint(ev *event.Event, subsystem, name string, arguments func(*lines, *event.Event)) {
	j := &t.json
	t.payload(ev, "process_tracepoint")
	j.string("subsys", subsystem)
	j.string("event", name)
	j.key("args")
	j.open('[')
	arguments(t, ev)
	j.close(']')
	j.string("policy_name", policyName)
	j.string("action", "KPROBE_ACTION_POST")
	j.string("message", t.point(ev))
}

// point is the name of the event's point.
func (t *lines) point(ev *event.Event) string {
	if ev.Point != event.Syscall {
		return ev.Point.String()
	}
	t.scratch = callPoint(ev).AppendTo(t.scratch[:0])
	return view(t.scratch)
}

const policyName = "sonde"

// connectionFunctions are the kernel functions by which Tetragon's users know what
// happens to connections.
var connectionFunctions = [event.Points]string{
	event.NetworkConnect: "tcp_connect", event.NetworkAccept: "inet_csk_accept",
	event.NetworkClose: "tcp_close", event.NetworkListen: "inet_csk_listen_start",
}

func (t *lines) connection(ev *event.Event) {
	j, c := &t.json, &ev.Conn
	t.payload(ev, "process_kprobe")
	j.string("function_name", connectionFunctions[ev.Point])
	j.key("args")
	j.open('[')
	j.open('{')
	j.object("sock_arg")
	local, remote := address(c.Family, c.Local), address(c.Family, c.Remote)
	if c.Family == event.IPv6 {
		j.string("family", "AF_INET6")
	} else {
		j.string("family", "AF_INET")
	}
	if c.Protocol == unix.IPPROTO_UDP {
		j.string("type", "SOCK_DGRAM")
		j.string("protocol", "IPPROTO_UDP")
	} else {
		j.string("type", "SOCK_STREAM")
		j.string("protocol", "IPPROTO_TCP")
	}
	j.address("saddr", local)
	j.address("daddr", remote)
	if c.LocalPort != 0 {
		j.uint("sport", uint64(c.LocalPort))
	}
	if c.RemotePort != 0 {
		j.uint("dport", uint64(c.RemotePort))
	}
	if c.Cookie != 0 {
		j.uint64("cookie", c.Cookie)
	}
	j.close('}')
	j.close('}')
	j.close(']')
	j.string("action", "KPROBE_ACTION_POST")
	j.string("policy_name", policyName)
	j.string("message", ev.Point.String())
}

func address(f event.Family, a [16]byte) netip.Addr {
	if f == event.IPv6 {
		return netip.AddrFrom16(a)
	}
	return netip.AddrFrom4([4]byte(a[:4]))
}

// capabilityNames are the names of the capabilities, by number.
var capabilityNames = [...]string{
	"CAP_CHOWN", "DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW",
	"CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT",
	"CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD",
	"CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
	"CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}
