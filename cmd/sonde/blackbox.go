package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/blackbox"
	"github.com/sonde-ebpf/sonde/internal/logging"
	"github.com/sonde-ebpf/sonde/introspect"
)

// beginBlackBox enters this run in the black box and tells once how the runs
// before it ended. What cannot be kept is logged: a sensor that forgets is still
// a sensor.
func (p *probes) beginBlackBox() (detail string, err error) {
	log := p.opts.log.With(logging.TargetKey, "blackbox")
	run := p.thisRun()
	seen, err := p.seenEnds(run)
	if err != nil {
		log.Warn("black box not read", "err", err)
	}
	p.box = blackbox.Open(p.opts.settings.stateDir)
	untold, err := p.box.Begin(run, seen)
	if err != nil {
		log.Warn("black box not kept", "err", err)
	}
	for _, end := range untold {
		level := slog.LevelWarn
		if end.Reason == blackbox.Clean {
			level = slog.LevelInfo
		}
		attrs := []any{"reason", end.Reason, "pid", end.PID}
		if !end.Time.IsZero() {
			attrs = append(attrs, "time", end.Time.UTC().Format(time.RFC3339))
		}
		if end.Detail != "" {
			attrs = append(attrs, "detail", end.Detail)
		}
		log.Log(p.work, level, "earlier run of the sensor ended", attrs...)
	}
	if err := p.watchCrash(); err != nil {
		log.Warn("crashes leave no report", "err", err)
	}
	return fmt.Sprintf("%d earlier ends", p.endsBefore()), nil
}

// enlist makes this run known to what an earlier one has pinned, before it loads
// anything: it may die of that.
func (a *agent) enlist() (string, error) {
	if !a.config.Collectors["oom"] {
		return "off", nil
	}
	if err := bpf.Enlist(a.settings.pinDir); err != nil {
		a.log.Warn("not watched while it starts", "err", err)
	}
	return "", nil
}

// thisRun is what the next run may want to know of this one.
func (p *probes) thisRun() blackbox.Run {
	run := blackbox.Run{PID: int(p.kernel.Self().PID), Started: p.attached.UTC()}
	fs := p.opts.machine.fs
	run.Boot, _ = fs.BootID() // without it a reset is told as no record
	if own, parent, err := fs.SelfKills(); err == nil {
		run.Own = blackbox.Kills{Cgroup: own.Cgroup, Count: own.Kills}
		run.Parent = blackbox.Kills{Cgroup: parent.Cgroup, Count: parent.Kills}
	}
	return run
}

// seenEnds is what the probe has seen of earlier runs; nothing where there is no probe.
func (p *probes) seenEnds(run blackbox.Run) (blackbox.Seen, error) {
	none := blackbox.Seen{Generation: fmt.Sprintf("%s/none since %d", run.Boot, run.Started.UnixNano())}
	if p.oom == nil {
		return none, nil
	}
	generation, err := p.oom.Generation()
	if err != nil {
		return none, err
	}
	seen := blackbox.Seen{
		Generation: fmt.Sprintf("%s/%d", run.Boot, generation),
		Totals:     blackbox.Totals{Ends: map[string]blackbox.Tally{}, Kills: map[string]uint64{}},
	}
	endings, err := p.oom.Endings()
	if err != nil {
		return none, err
	}
	for _, e := range endings {
		tally := blackbox.Tally{Count: e.Count}
		if e.LastNS != 0 {
			tally.Last = p.model.wall(e.LastNS).UTC()
		}
		seen.Totals.Ends[e.Reason] = tally
	}
	kills, err := p.oom.Read()
	if err != nil {
		return none, err
	}
	for _, k := range kills {
		if k.Victim == "sensor" {
			seen.Totals.Kills[k.Scope] = k.Count
		}
	}
	ends, err := p.oom.Ends()
	if err != nil {
		return none, err
	}
	for _, e := range ends {
		end := blackbox.End{Reason: e.Reason, PID: int(e.PID), Detail: describeEnd(&e)}
		if e.TimeNS != 0 {
			end.Time = p.model.wall(e.TimeNS)
		}
		seen.Ends = append(seen.Ends, blackbox.SeenEnd{Seq: e.Seq, End: end})
	}
	return seen, nil
}

// describeEnd says what is known of an end beside its reason.
func describeEnd(e *bpf.SensorEnd) string {
	var parts []string
	switch {
	case e.Kill != nil:
		k := e.Kill
		parts = append(parts, fmt.Sprintf("%s out of memory, %s anonymous, %s of files", k.Scope, mebibytes(k.Anon), mebibytes(k.File)))
		if k.CgroupLimit > 0 {
			parts = append(parts, fmt.Sprintf("%s of %s used", mebibytes(k.CgroupUsage), mebibytes(k.CgroupLimit)))
		}
	case e.Signal != 0:
		parts = append(parts, unix.SignalName(unix.Signal(e.Signal)))
	case e.TimeNS == 0:
		parts = append(parts, "no program saw its end")
	default:
		parts = append(parts, fmt.Sprintf("exit code %d", e.ExitCode))
	}
	return strings.Join(parts, ", ")
}

// watchCrash lets the Go run time write its last words to the state directory too.
func (p *probes) watchCrash() error {
	path := filepath.Join(p.opts.settings.stateDir, blackbox.CrashFile)
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("open crash report: %w", err)
	}
	defer file.Close() // the run time keeps a descriptor of its own
	if err := debug.SetCrashOutput(file, debug.CrashOptions{}); err != nil {
		return fmt.Errorf("set crash report %s: %w", path, err)
	}
	return nil
}

func (p *probes) endsBefore() (n uint64) {
	for _, tally := range p.box.Totals().Ends {
		n += tally.Count
	}
	return n
}

// endBlackBox records how this run ends.
func (a *agent) endBlackBox(code exitCode) {
	p := a.probes.Load()
	if p == nil {
		return
	}
	if err := p.box.End(time.Now().UTC(), int(code)); err != nil {
		a.log.Warn("end of the run not recorded", "err", err)
	}
}

// logPins says what the kernel keeps when the sensor has stopped.
func (p *probes) logPins(log *slog.Logger) {
	if p.oom != nil && p.oom.PinnedIn() != "" {
		log.Info("stays pinned: counts OOM kills and how the sensor ended, until the next start", "dir", p.oom.PinnedIn(), "remove", "sonde cleanup")
	}
}

// blackBoxState is the black box as introspection shows it.
func (p *probes) blackBoxState() introspect.BlackBox {
	var out introspect.BlackBox
	totals := p.box.Totals()
	for _, reason := range blackbox.Reasons {
		tally := totals.Ends[reason]
		out.Terminations = append(out.Terminations, introspect.Termination{Reason: reason, Count: tally.Count, Last: tally.Last})
	}
	out.LastEnd = p.box.Last()
	if p.oom == nil {
		return out
	}
	out.Pinned = p.oom.PinnedIn()
	if ends, err := p.oom.Ends(); err == nil {
		for _, e := range ends {
			end := introspect.SensorEnd{Reason: e.Reason, PID: e.PID, ExitCode: e.ExitCode, Since: p.model.wall(e.SinceNS).UTC(), Detail: describeEnd(&e)}
			if e.Signal != 0 {
				end.Signal = unix.SignalName(unix.Signal(e.Signal))
			}
			if e.TimeNS != 0 {
				end.Time = p.model.wall(e.TimeNS).UTC()
			}
			out.Ends = append(out.Ends, end)
		}
	}
	if kills, err := p.oom.Kills(); err == nil {
		for _, k := range kills {
			out.Kills = append(out.Kills, introspect.OOMKill{
				Time: p.model.wall(k.TimeNS).UTC(), Victim: k.Victim, Scope: k.Scope, PID: k.PID, UID: k.UID, Comm: k.Comm,
				Anon: k.Anon, File: k.File, Shmem: k.Shmem, Swap: k.Swap, Usage: k.CgroupUsage, Limit: k.CgroupLimit,
			})
		}
	}
	return out
}
