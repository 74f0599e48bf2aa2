package sink

import "time"

// Process is what is known of a process beyond what an event carries.
type Process struct {
	PID, UID      uint32
	LoginUID      uint32 // ^0 if there is none
	ExecNS        uint64 // of its last exec, else its start, CLOCK_BOOTTIME
	Exe, Args     string // as given to execve; arguments separated by NUL, with the zeroth
	Cwd           string
	Seeded        bool // it was there before the sensor
	Forked        bool // it has not called execve since it was forked
	ParentPID     uint32
	ParentStartNS uint64 // 0 where the parent is not known
	Container     Container
}

// Container is what is known of the container that a process is in; the zero value
// stands for the host. What its runtime has not told is empty.
type Container struct {
	ID, Name, Image, Namespace, Pod string
}

// Machine is what a sink asks about the processes of this machine. It is asked for
// every event, from the goroutine of the sink, and must not allocate.
type Machine interface {
	// Process describes the process with that pid and start.
	Process(pid uint32, startNS uint64) (Process, bool)
	// Container describes the container with that id.
	Container(id string) Container
	// Boot returns the time at which CLOCK_BOOTTIME was 0.
	Boot() time.Time
	// Node returns the machine's name.
	Node() string
}
