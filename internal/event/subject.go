package event

import "unsafe"

// Subject is who did it: what was known of the process of an event when the event was
// read, whatever the process has become since. Its texts never change, so that a copy
// of it is cheap; they are not those of the event. What is not known is zero.
type Subject struct {
	Process, Parent Actor
	// Grandparent is by what the parent's parent is known.
	Grandparent ExecID
}

// ExecID names a process while it is one program: it never repeats.
type ExecID struct {
	PID    uint32 // 0 for none
	ExecNS uint64 // of its last exec, else its start, CLOCK_BOOTTIME
}

// Actor is what is known of a process.
type Actor struct {
	ExecID
	UID      uint32
	LoginUID uint32 // ^0 if there is none, or it is not known
	Exe      string // the file that it executes, else as it was given to execve
	Args     string // separated by NUL, with the zeroth
	Cwd      string // at its last exec
	// Container is the id of its container, "" on the host.
	Container string
	Seeded    bool // it was there before the sensor, and has not called execve since
	Forked    bool // it has not called execve since it was forked
}

// Container returns the id of the container that the event is of, "" for the host. It
// lives as long as the event is not reused.
func (e *Event) Container() string {
	if id := e.Text(TextContainer); len(id) > 0 {
		return unsafe.String(unsafe.SliceData(id), len(id))
	}
	return e.Subject.Process.Container
}
