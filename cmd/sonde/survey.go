package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/state"
)

// maxArguments bounds what is read of a process's arguments, in bytes.
const maxArguments = 4096

// seed enters the processes that were there before, as soon as events tell of those that
// come, and before the first event is read: none is of a process that is not known.
func (p *probes) seed() (string, error) {
	defer close(p.model.seeded)
	v := p.model.store.Survey()
	whole := p.surveyProcesses(v)
	v.Finish(whole, false)
	if !whole {
		return "not every process that was there before is known", nil
	}
	return "", nil
}

// survey shows the picture what the kernel lists itself. It says which of
// processes and sockets were walked to their end.
func (p *probes) survey(v *state.Survey) (processes, sockets bool) {
	if p.processes != nil {
		processes = p.surveyProcesses(v)
	}
	return processes, p.surveySockets(v)
}

// surveyProcesses shows the processes that the kernel's own iterator lists, and then
// those that only /proc does: an iterator may be refused, and has been found to leave
// out pid 1 on a hardened kernel. Either alone is a whole walk. Of a process that is
// known no file is read.
func (p *probes) surveyProcesses(v *state.Survey) (whole bool) {
	listed := map[uint32]struct{}{}
	show := func(who *event.Process) { v.Process(p.seedOf(who)) }
	err := p.processes.Survey(func(who *event.Process) {
		listed[who.PID] = struct{}{}
		if !v.Known(who) {
			show(who)
		}
	})
	rest := unlisted{machine: p.opts.machine, self: p.kernel.Self().PID, listed: listed, cgroups: p.model.cgroupRoot()}
	restErr := rest.each(v.Known, show)
	if err != nil && restErr != nil {
		p.opts.log.Warn("processes not compared with the kernel", "err", errors.Join(err, restErr))
		return false
	}
	return true
}

// surveySockets shows the sockets of both protocols: of a picture that has both,
// nothing may be ended while one of them was not looked at. Where the kernel does not
// show them, those are shown that /proc lists.
func (p *probes) surveySockets(v *state.Survey) (whole bool) {
	show := func(r bpf.SocketRecord) {
		v.Socket(state.Socket{Conn: r.Conn, Owner: r.Process, Listener: r.Listen})
	}
	var errs []error
	if p.tcp != nil {
		errs = append(errs, p.tcp.Survey(show))
	}
	if p.udp != nil {
		errs = append(errs, p.udp.Survey(show))
	}
	err := errors.Join(errs...)
	if errors.Is(err, bpf.ErrNoWalk) { // which the probes' status says
		var all []state.Socket
		if all, err = p.opts.machine.listedSockets(p.tcp != nil, p.udp != nil); err == nil {
			v.Listed(all)
			return false
		}
	}
	if err != nil {
		p.opts.log.Warn("sockets not compared with the kernel", "err", err)
		return false
	}
	return len(errs) > 0
}

// seedOf adds what /proc tells of a process that was found by the kernel's list.
// What cannot be read, of a process that has just ended or a kernel thread, stays
// empty.
func (p *probes) seedOf(who *event.Process) state.ProcessSeed {
	dir := filepath.Join(p.opts.settings.procFS, strconv.FormatUint(uint64(who.PID), 10))
	seed := state.ProcessSeed{Process: *who, LoginUID: state.NoLoginUID}
	seed.Exe, _ = os.Readlink(filepath.Join(dir, "exe"))
	seed.Cwd, _ = os.Readlink(filepath.Join(dir, "cwd"))
	if text, err := os.ReadFile(filepath.Join(dir, "loginuid")); err == nil {
		if uid, err := strconv.ParseUint(string(bytes.TrimSpace(text)), 10, 32); err == nil {
			seed.LoginUID = uint32(uid)
		}
	}
	if args, err := os.ReadFile(filepath.Join(dir, "cmdline")); err == nil {
		seed.Args = args[:min(len(args), maxArguments)]
	}
	return seed
}
