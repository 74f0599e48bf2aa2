package bpf

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// endReasons are how a run of the sensor can end, in the kernel's order.
var endReasons = [len(oomEndTally{}.Count)]string{"oom_kill", "signal", "crash", "clean", "error", "unknown"}

const endUnknown = len(endReasons) - 1

// EndStat counts the runs of the sensor that ended in one way.
type EndStat struct {
	Reason string // "oom_kill", "signal", "crash", "clean", "error", "unknown"
	Count  uint64
	LastNS uint64 // CLOCK_BOOTTIME; 0: never, or not known
}

// SensorEnd is the end of one run of the sensor.
type SensorEnd struct {
	Seq     uint64 // its number, from 1
	Reason  string
	TimeNS  uint64 // CLOCK_BOOTTIME; 0: not known
	SinceNS uint64 // when the run began to be watched, CLOCK_BOOTTIME

	PID     uint32 // in the initial pid namespace
	StartNS uint64 // of the process, CLOCK_BOOTTIME

	ExitCode int
	Signal   int      // 0: it ended by itself
	Kill     *OOMKill // nil if the OOM killer did not choose it, or that is forgotten
}

// enlist makes this process the sensor. A run before it that is still listed has
// ended unseen: its end is entered as unknown.
func (o *OOM) enlist() error {
	sensors := o.obj.coll.Maps["sensors"]
	var (
		id      oomIdentity
		run     oomRun
		earlier = map[oomIdentity]oomRun{}
	)
	entries := sensors.Iterate()
	for entries.Next(&id, &run) {
		earlier[id] = run
	}
	if err := entries.Err(); err != nil {
		return fmt.Errorf("list earlier sensors: %w", err)
	}
	if err := runHere(o.obj.coll.Programs["enlist"]); err != nil {
		return fmt.Errorf("enlist as sensor: %w", err)
	}
	for id, was := range earlier {
		err := sensors.Lookup(id, &run)
		switch {
		case errors.Is(err, ebpf.ErrKeyNotExist): // the pinned program was quicker
		case err != nil:
			return fmt.Errorf("find earlier sensor: %w", err)
		case run.SinceNs != was.SinceNs: // that is this process, enlisted again
		default:
			if err := o.missed(id, was); err != nil {
				return fmt.Errorf("enter end of earlier sensor: %w", err)
			}
		}
	}
	return nil
}

// missed enters an end that no program has seen. There is nobody else to enter
// one now: the sensor that ended is gone, and this one lives.
func (o *OOM) missed(id oomIdentity, was oomRun) error {
	maps, zero := o.obj.coll.Maps, uint32(0)
	err := maps["sensors"].Delete(id)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var all oomEndTally
	if err := maps["endings"].Lookup(zero, &all); err != nil {
		return err
	}
	all.Seq++
	all.Count[endUnknown]++
	end := oomEnd{Seq: all.Seq, Sensor: id, SinceNs: was.SinceNs, KillSeq: was.KillSeq, Reason: uint32(endUnknown)}
	if err := maps["ends"].Put(uint32((end.Seq-1)%uint64(maps["ends"].MaxEntries())), end); err != nil {
		return err
	}
	return maps["endings"].Put(zero, all)
}

// Retire records that this run ends as it should. What ends it afterwards with
// another exit code than 0 is still an error, a crash or a kill.
func (o *OOM) Retire() error {
	if err := runHere(o.obj.coll.Programs["retire"]); err != nil {
		return fmt.Errorf("record clean stop: %w", err)
	}
	return nil
}

// runHere runs a program once, in the context of this process.
func runHere(program *ebpf.Program) error {
	errno, err := program.Run(&ebpf.RunOptions{})
	if err == nil && errno != 0 {
		err = unix.Errno(-int32(errno))
	}
	return err
}

// Generation names the maps that hold the ends, uniquely while the machine is up:
// what Ends counts begins anew only with another one.
func (o *OOM) Generation() (uint32, error) {
	info, err := o.obj.coll.Maps["endings"].Info()
	if err != nil {
		return 0, fmt.Errorf("identify the counts of ends: %w", err)
	}
	id, _ := info.ID()
	return uint32(id), nil
}

// Endings returns how often the sensor has ended in each way.
func (o *OOM) Endings() ([]EndStat, error) {
	var all oomEndTally
	if err := o.obj.coll.Maps["endings"].Lookup(uint32(0), &all); err != nil {
		return nil, fmt.Errorf("read ends: %w", err)
	}
	stats := make([]EndStat, len(endReasons))
	for i, reason := range endReasons {
		stats[i] = EndStat{Reason: reason, Count: all.Count[i], LastNS: all.LastNs[i]}
	}
	return stats, nil
}

// Ends returns the last ends, the oldest first: 16 at most.
func (o *OOM) Ends() ([]SensorEnd, error) {
	kills, err := o.Kills()
	if err != nil {
		return nil, err
	}
	var ends []SensorEnd
	last := o.obj.coll.Maps["ends"]
	for i := range last.MaxEntries() {
		var e oomEnd
		if err := last.Lookup(i, &e); err != nil {
			return nil, fmt.Errorf("read last ends: %w", err)
		}
		if e.Seq != 0 {
			ends = append(ends, decodeEnd(&e, kills))
		}
	}
	slices.SortFunc(ends, func(a, b SensorEnd) int { return cmp.Compare(a.Seq, b.Seq) })
	return ends, nil
}

func decodeEnd(e *oomEnd, kills []OOMKill) SensorEnd {
	status := unix.WaitStatus(e.Status)
	end := SensorEnd{
		Seq: e.Seq, Reason: endReasons[int(e.Reason)%len(endReasons)], TimeNS: e.TimeNs, SinceNS: e.SinceNs,
		PID: e.Sensor.Pid, StartNS: e.Sensor.StartNs,
	}
	switch {
	case status.Signaled():
		end.Signal = int(status.Signal())
	case status.Exited():
		end.ExitCode = status.ExitStatus()
	}
	i := slices.IndexFunc(kills, func(k OOMKill) bool { return k.Seq == e.KillSeq })
	if e.KillSeq != 0 && i >= 0 {
		end.Kill = &kills[i]
	}
	return end
}
