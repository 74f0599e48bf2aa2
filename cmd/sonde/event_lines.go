package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	api "github.com/cilium/tetragon/api/v1/tetragon"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/sink"
)

// eventLines writes events for people, one line each. A stream has no end at which
// columns could be measured, so their widths are fixed; what is longer pushes the rest.
type eventLines struct {
	w      io.Writer
	colour bool
}

func newEventLines(w io.Writer) *eventLines { return &eventLines{w, isTerminal(w)} }

// shownEvent is an event as a line shows it.
type shownEvent struct {
	point   string
	process *api.Process
	what    string
	news    status // good or bad; "" is neither
}

// write writes one line: time, point, process, container, and what happened.
func (l *eventLines) write(ev *api.GetEventsResponse) error {
	s := shownOf(ev)
	if rule := ev.NodeLabels[sink.LabelRule]; rule != "" {
		severity := ev.NodeLabels[sink.LabelSeverity]
		s.what += fmt.Sprintf(" [%s, %s, %s]", rule, severity, ev.NodeLabels[sink.LabelTechnique])
		s.news = newsOf(severity)
	}
	at := ev.GetTime().AsTime().Local().Format("15:04:05.000")
	if s.process == nil { // not of a process
		_, err := fmt.Fprintf(l.w, "%s  %s\n", at, paintAs(s.news, printable(s.what), l.colour))
		return err
	}
	_, err := fmt.Fprintf(l.w, "%s  %s  %7d  %-22s  %s\n", at, paintAs(s.news, fmt.Sprintf("%-16s", s.point), l.colour),
		s.process.GetPid().GetValue(), printable(whereOf(s.process)), printable(s.what))
	return err
}

func shownOf(ev *api.GetEventsResponse) shownEvent {
	switch e := ev.Event.(type) {
	case *api.GetEventsResponse_ProcessExec:
		p := e.ProcessExec.Process
		return shownEvent{"process/exec", p, commandOf(p), ""}
	case *api.GetEventsResponse_ProcessExit:
		return exitOf(e.ProcessExit)
	case *api.GetEventsResponse_ProcessKprobe:
		return shownEvent{e.ProcessKprobe.Message, e.ProcessKprobe.Process, actOf(e.ProcessKprobe.Process, e.ProcessKprobe.Args), ""}
	case *api.GetEventsResponse_ProcessTracepoint:
		return shownEvent{e.ProcessTracepoint.Message, e.ProcessTracepoint.Process, actOf(e.ProcessTracepoint.Process, e.ProcessTracepoint.Args), ""}
	case *api.GetEventsResponse_RateLimitInfo:
		return shownEvent{what: fmt.Sprintf("%d events are missing here", e.RateLimitInfo.NumberOfDroppedProcessEvents), news: statusWarn}
	}
	return shownEvent{what: "an event of a kind that this version does not know"}
}

// newsOf paints what a detection rule has found.
func newsOf(severity string) status {
	if s, err := event.ParseSeverity(severity); err == nil && s < event.High {
		return statusWarn
	}
	return statusFail
}

func exitOf(e *api.ProcessExit) shownEvent {
	s := shownEvent{"process/exit", e.Process, nameOf(e.Process), ""}
	switch {
	case e.Signal != "":
		s.what, s.news = s.what+": "+e.Signal, statusFail
	case e.Status != 0:
		s.what += fmt.Sprintf(": status %d", e.Status)
	}
	return s
}

// whereOf is the pod and the container of a process, or the host.
func whereOf(p *api.Process) string {
	switch pod := p.GetPod(); {
	case pod != nil:
		return pod.Name + "/" + pod.GetContainer().GetName()
	case p.Docker != "":
		return p.Docker[:min(12, len(p.Docker))]
	}
	return "host"
}

func nameOf(p *api.Process) string { return cmp.Or(p.GetBinary(), "?") }

func commandOf(p *api.Process) string { return strings.TrimSpace(nameOf(p) + " " + p.GetArguments()) }

// actOf says who did something, and to what.
func actOf(p *api.Process, args []*api.KprobeArgument) string {
	var all []string
	if p.GetPid().GetValue() != 0 { // else it is about a container, or the node
		all = append(all, nameOf(p))
	}
	for _, a := range args {
		if text := argumentOf(a); text != "" {
			all = append(all, text)
		}
	}
	return strings.Join(all, " ")
}

func argumentOf(a *api.KprobeArgument) string {
	switch v := a.Arg.(type) {
	case *api.KprobeArgument_SockArg:
		return socketOf(v.SockArg)
	case *api.KprobeArgument_StringArg:
		return v.StringArg
	case *api.KprobeArgument_IntArg:
		return fmt.Sprint(v.IntArg)
	case *api.KprobeArgument_LongArg:
		return fmt.Sprint(v.LongArg)
	case *api.KprobeArgument_SizeArg:
		return fmt.Sprint(v.SizeArg)
	case *api.KprobeArgument_UintArg:
		return fmt.Sprint(v.UintArg)
	case *api.KprobeArgument_FileArg:
		return v.FileArg.GetPath()
	case *api.KprobeArgument_PathArg:
		return v.PathArg.GetPath()
	case *api.KprobeArgument_ModuleArg:
		return v.ModuleArg.GetName()
	}
	return ""
}

func socketOf(s *api.KprobeSock) string {
	local := fmt.Sprintf("%s %s:%d", strings.ToLower(strings.TrimPrefix(s.Protocol, "IPPROTO_")), bracketed(s.Saddr), s.Sport)
	if s.Dport == 0 {
		return local
	}
	return fmt.Sprintf("%s -> %s:%d", local, bracketed(s.Daddr), s.Dport)
}

func bracketed(address string) string {
	if strings.Contains(address, ":") {
		return "[" + address + "]"
	}
	return address
}
