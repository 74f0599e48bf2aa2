package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/config"
	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/logging"
	"github.com/sonde-ebpf/sonde/internal/rules"
	"github.com/sonde-ebpf/sonde/internal/stream"
	"github.com/sonde-ebpf/sonde/introspect"
)

// sessions are those of the running sensor: the ones that the configuration lists,
// and the ones that were created since.
type sessions struct {
	*stream.Manager
	log     *slog.Logger
	machine *sinkMachine // that sinks ask
	kernel  *bpf.Kernel
	calls   *bpf.Calls
	acts    *bpf.Acts
	rules   *rules.Engine
	digests *digester
	// listed are the sessions of the configuration in force, by name, as JSON. Only
	// follow touches it, which the configuration's store calls one at a time.
	listed map[string]string
}

// picturePoints are those that the sensor itself wants: its picture of the node is made
// of them.
var picturePoints = []event.Point{
	event.Canary, event.ProcessExec, event.ProcessFork, event.ProcessExit,
	event.NetworkConnect, event.NetworkAccept, event.NetworkClose, event.NetworkListen,
}

// newSessions returns those of a sensor whose kernel object is loaded. None exists yet.
func (p *probes) newSessions() *sessions {
	limits, model := &p.opts.config.Limits, p.model
	s := &sessions{
		log: p.opts.log.With(logging.TargetKey, "sessions"), machine: newSinkMachine(model, p.opts.settings), kernel: p.kernel,
		calls: bpf.NewCalls(p.kernel), acts: bpf.NewActs(p.kernel), rules: p.rules, digests: p.digests, listed: map[string]string{},
	}
	s.Manager = stream.NewManager(stream.ManagerOptions{
		Queue:   stream.QueueSize{Events: limits.QueueEvents, TextBytes: int(limits.QueueTextBytes)},
		Open:    s.machine.open,
		Enable:  s.enable,
		Mark:    s.mark,
		Now:     model.clock.Now,
		Below:   model.store.Below,
		Admit:   p.governor.Admit,
		Hold:    model.hold,
		Earlier: model.earlier,
		Pulse:   p.opts.vitals.sink,
	})
	return s
}

// enable makes the kernel send what sessions want, and what rules and the picture do.
func (s *sessions) enable(w stream.Wanted) error {
	points, ends := s.rules.Set().Points() // wanted whether or not a session wants them
	w.Points, w.Calls = append(w.Points, points...), w.Calls.Plus(ends)
	for _, p := range points { // rules look at all processes
		delete(w.Limits, p)
	}
	model := s.machine.model
	model.tell(w.Points)
	model.teller.want(slices.Contains(w.Points, event.NetworkReport))
	s.digests.wanted.Store(w.Digests)
	model.ancestors.Store(w.Ancestors)
	if err := errors.Join(s.calls.Want(w.Calls), s.acts.Want(w.Points), s.kernel.TellEnvironments(w.Environments), s.kernel.SetLimits(w.Limits)); err != nil {
		return err
	}
	return s.kernel.SetPoints(append(w.Points, picturePoints...)...)
}

// mark completes an event before anybody sees it.
func (s *sessions) mark(ev *event.Event) {
	s.digests.add(ev)
	s.rules.Mark(ev)
}

// listedSessions reads the sessions that a configuration lists. It returns every fault.
func listedSessions(all []config.Session) (map[string]string, error) {
	texts := map[string]string{}
	var faults []error
	for _, s := range all {
		text, err := json.Marshal(s.Raw)
		if err == nil {
			_, _, err = stream.ParseSession(text)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("sessions: %w", err))
		}
		texts[s.Name] = string(text)
	}
	return texts, errors.Join(faults...)
}

// follow makes the listed sessions those of the configuration. Of a configuration
// that cannot be followed nothing stays.
func (s *sessions) follow(r config.Runtime) error {
	next, err := listedSessions(r.Sessions)
	if err != nil {
		return err
	}
	before := s.listed
	if err := s.change(next); err != nil {
		return errors.Join(err, s.change(before))
	}
	return nil
}

// change deletes the listed sessions that next has not, or has otherwise, and creates
// what is new in it.
func (s *sessions) change(next map[string]string) error {
	now := map[string]string{}
	for name, text := range s.listed {
		if next[name] == text {
			now[name] = text
		} else if err := s.remove(name); err != nil {
			s.log.Warn("session not ended in order", "session", name, "err", err)
		}
	}
	s.listed = now
	for name, text := range next {
		if _, there := now[name]; there {
			continue
		}
		if _, _, err := s.CreateSession([]byte(text)); err != nil {
			return err
		}
		now[name] = text
	}
	return nil
}

// removeTimeout bounds how long the end of a session waits for its sinks.
const removeTimeout = 5 * time.Second

func (s *sessions) remove(name string) error {
	ctx, done := context.WithTimeout(context.Background(), removeTimeout)
	defer done()
	_, err := s.DeleteSession(ctx, name)
	return err
}

// CreateSession implements introspect.Trace.
func (s *sessions) CreateSession(text []byte) (name string, missing []string, err error) {
	session, missing, err := stream.ParseSession(text)
	if err != nil {
		return "", nil, err
	}
	skipped, err := s.Create(session)
	if err != nil {
		return "", nil, err
	}
	if skipped != nil {
		missing = append(missing, skipped.Error())
	}
	if len(missing) > 0 {
		s.log.Warn("session created in part", "session", session.Name, "missing", missing)
	} else {
		s.log.Info("session created", "session", session.Name, "points", len(session.Points), "sinks", len(session.Sinks))
	}
	return session.Name, missing, nil
}

// DeleteSession implements introspect.Trace.
func (s *sessions) DeleteSession(ctx context.Context, name string) (stream.SessionStat, error) {
	stat, err := s.Delete(ctx, name)
	for _, k := range stat.Sinks {
		s.log.Info("session deleted", "session", name, "sink", k.Sink, "delivered", k.Delivered, "dropped", k.Lost())
	}
	return stat, err
}

// Follow implements introspect.Trace.
func (s *sessions) Follow(kind string, points []stream.Point, to stream.Sink) (name string, err error) {
	if name, err = s.CreateNext(kind, points, to); err == nil {
		s.log.Info("stream begins", "session", name)
	}
	return name, err
}

// SinkKinds implements introspect.Trace.
func (s *sessions) SinkKinds() []string { return sinkKinds }

// names lists the sessions.
func (s *sessions) names() []string {
	names := []string{}
	for _, r := range s.Sessions() {
		names = append(names, r.Name)
	}
	slices.Sort(names)
	return names
}

// pipeline is the ledger of every session and sink.
func (s *sessions) pipeline() (all []introspect.PipelineSession) {
	for _, r := range s.Sessions() {
		for _, k := range r.Sinks {
			all = append(all, introspect.PipelineSession{
				Session: k.Session, Sink: k.Sink, Matched: k.Matched, Delivered: k.Delivered, Filtered: k.Filtered, Dropped: k.Lost(),
				Queued: k.Queued, Capacity: k.Capacity,
			})
		}
	}
	return all
}

// lost returns how many events sessions did not get, by stage.
func (s *sessions) lost() (session, sink uint64) {
	for _, losses := range s.Lost() {
		for loss, n := range losses {
			if event.Loss(loss).Stage() == "sink" {
				sink += n
			} else {
				session += n
			}
		}
	}
	return session, sink
}
