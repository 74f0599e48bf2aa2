package event

import (
	"encoding/binary"
	"unsafe"
)

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

// ancestorHead is what an ancestor takes before its path, in bytes: pid, time and length.
const ancestorHead = 4 + 8 + 2

// AppendAncestor appends one to the bytes of a TextAncestors, unless they would be longer
// than AncestorsLen: ok says so.
func AppendAncestor(b []byte, id ExecID, exe string) (_ []byte, ok bool) {
	if len(b)+ancestorHead+len(exe) > AncestorsLen {
		return b, false
	}
	b = binary.NativeEndian.AppendUint32(b, id.PID)
	b = binary.NativeEndian.AppendUint64(b, id.ExecNS)
	b = binary.NativeEndian.AppendUint16(b, uint16(len(exe)))
	return append(b, exe...), true
}

// Ancestors yields whom the process descends from, beginning with its parent's parent, and
// the files that they execute. The paths live as long as the event is not reused.
func (e *Event) Ancestors(yield func(id ExecID, exe []byte) bool) {
	for b := e.Text(TextAncestors); len(b) >= ancestorHead; {
		id := ExecID{binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint64(b[4:])}
		end := ancestorHead + int(binary.NativeEndian.Uint16(b[12:]))
		if !yield(id, b[ancestorHead:end]) {
			return
		}
		b = b[end:]
	}
}

// Container returns the id of the container that the event is of, "" for the host. It
// lives as long as the event is not reused.
func (e *Event) Container() string {
	if id := e.Text(TextContainer); len(id) > 0 {
		return unsafe.String(unsafe.SliceData(id), len(id))
	}
	return e.Subject.Process.Container
}
