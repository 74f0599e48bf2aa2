package event

import (
	"slices"
	"sync/atomic"
	"unicode/utf8"
)

// Text names a text that an event may carry.
type Text uint8

// The texts.
const (
	TextPath Text = iota // process/exec: file name as it was given to execve; syscall: a file name that it was given
	TextArgs             // arguments of a program from the zeroth on, a NUL after each
	TextCwd              // process/exec: working directory, as the process sees it
	TextExe              // process/exec: the executed file, as the process sees it: through no link, and never a script

	TextContainer // id of the container, where the source of the event says it
	TextNetwork   // network/report: name of the known network that the peer is in

	TextEnv // the environment, a NUL after each variable
	TextIn  // syscall: memory that the call was given, bytes as they are
	TextOut // syscall: memory that the call has filled, bytes as they are
	TextFD  // syscall: path of the file that its descriptor stands for, as the process sees it

	TextDigest // process/exec: SHA-256 of the executed file, bytes as they are

	TextAncestors // whom the process descends from, as Ancestors reads it

	TextKinds = int(TextAncestors) + 1
)

// Bounds of the texts, in bytes. The kernel side cuts at the same lengths.
const (
	PathLen = 1024
	ArgsLen = 4096
	CwdLen  = 1024
	ExeLen  = 1024

	EnvLen   = 4096
	BlockLen = 128 // TextIn, TextOut
	FDLen    = 1024

	DigestLen = 32 // not of the kernel side

	AncestorsLen = 1024 // not of the kernel side

	ContainerLen = 256 // not of the kernel side
	NetworkLen   = 256 // not of the kernel side

	maxData = PathLen + ArgsLen + CwdLen + ExeLen + ContainerLen + NetworkLen + EnvLen + 2*BlockLen + FDLen + DigestLen + AncestorsLen
)

// bounds is the longest that each text may be.
var bounds = [TextKinds]int{
	TextPath: PathLen, TextArgs: ArgsLen, TextCwd: CwdLen, TextExe: ExeLen, TextContainer: ContainerLen, TextNetwork: NetworkLen,
	TextEnv: EnvLen, TextIn: BlockLen, TextOut: BlockLen, TextFD: FDLen, TextDigest: DigestLen, TextAncestors: AncestorsLen,
}

// binary reports whether a text is no text but bytes that nobody reads as one.
func (t Text) binary() bool { return t == TextIn || t == TextOut || t >= TextDigest }

// Span is where a text lies in an event's data, and what is wrong with it.
type Span struct {
	At, Len    uint16
	Truncated  bool // it was longer
	Unreadable bool // it could not be read; Len is 0
}

// Text returns one of the event's texts, empty if it has none. It is valid UTF-8 but
// for TextIn, TextOut, TextDigest and TextAncestors, and lives as long as the event is not reused.
func (e *Event) Text(t Text) []byte {
	s := e.Texts[t]
	return e.Data[s.At : s.At+s.Len]
}

// Executable returns the path of the file that was executed: as the kernel knows
// it, or where that is not whole as it was given to execve.
func (e *Event) Executable() []byte {
	if exe := e.Texts[TextExe]; exe.Len == 0 || exe.Truncated {
		return e.Text(TextPath)
	}
	return e.Text(TextExe)
}

// Reset makes the event one without content and keeps the room for its texts.
func (e *Event) Reset() { *e = Event{Data: e.Data[:0]} }

// CopyTo makes a copy whose texts lie in data, of which len(e.Data) bytes are
// overwritten.
func (e *Event) CopyTo(to *Event, data []byte) {
	*to = *e
	to.Data = data[:copy(data, e.Data)]
}

// Clone returns a copy that shares nothing with the event.
func (e *Event) Clone() Event {
	c := *e
	c.Data = slices.Clone(e.Data)
	return c
}

// Editor is the only way by which texts get into events, wherever they come from.
// It cuts them at their bounds, replaces what is not UTF-8, withholds arguments and
// environments where they are not wanted, takes values out of environments that look
// like secrets, and counts what it did. The zero value withholds nothing. It may be
// used concurrently.
type Editor struct {
	withhold atomic.Bool
	did      struct{ cut, repaired, unreadable, redacted atomic.Uint64 }
}

// KeepArguments says whether arguments and environments of processes may be in events.
func (ed *Editor) KeepArguments(keep bool) { ed.withhold.Store(!keep) }

// Sanitized is what an Editor has done, in texts.
type Sanitized struct {
	Cut        uint64 // longer than their bound
	Repaired   uint64 // not UTF-8
	Unreadable uint64 // there, but not to be read
	Redacted   uint64 // environments with values that were taken out
}

// Sanitized returns what the Editor has done so far.
func (ed *Editor) Sanitized() Sanitized {
	d := &ed.did
	return Sanitized{d.cut.Load(), d.repaired.Load(), d.unreadable.Load(), d.redacted.Load()}
}

// Set gives the event a text, once. truncated says that raw is not all of it. Set
// allocates for an event's first text and never again while the event is reused.
func (ed *Editor) Set(e *Event, t Text, raw []byte, truncated bool) {
	if (t == TextArgs || t == TextEnv) && ed.withhold.Load() {
		return
	}
	if len(raw) > bounds[t] {
		raw, truncated = raw[:bounds[t]], true
	}
	if e.Data == nil {
		e.Data = make([]byte, 0, maxData)
	}
	at := len(e.Data)
	e.Data = append(e.Data, raw...)
	if truncated {
		ed.did.cut.Add(1)
	}
	if !t.binary() {
		if truncated {
			e.Data = trimRune(e.Data)
		}
		if repair(e.Data[at:]) {
			ed.did.repaired.Add(1)
		}
	}
	if t == TextEnv {
		left := redact(e.Data[at:])
		if at+left < len(e.Data) {
			ed.did.redacted.Add(1)
		}
		e.Data = e.Data[:at+left]
	}
	e.Texts[t] = Span{At: uint16(at), Len: uint16(len(e.Data) - at), Truncated: truncated}
}

// Unreadable notes that a text exists and could not be read.
func (ed *Editor) Unreadable(e *Event, t Text) {
	ed.did.unreadable.Add(1)
	e.Texts[t] = Span{Unreadable: true}
}

// Comm makes a thread's name valid UTF-8.
func (ed *Editor) Comm(comm *[CommLen]byte) {
	for _, b := range comm {
		if b >= utf8.RuneSelf {
			if repair(comm[:]) {
				ed.did.repaired.Add(1)
			}
			return
		}
	}
}

// replacement stands for a byte that is not part of valid UTF-8: one byte for one
// byte, so that a text never grows.
const replacement = '?'

// repair replaces in place what is not UTF-8 and reports whether there was any.
func repair(b []byte) bool {
	if utf8.Valid(b) {
		return false
	}
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			b[i] = replacement
		}
		i += n
	}
	return true
}

// trimRune drops the beginning of a character whose rest was cut off.
func trimRune(b []byte) []byte {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if last := b[len(b)-n:]; utf8.RuneStart(last[0]) {
			if !utf8.FullRune(last) {
				return b[:len(b)-n]
			}
			return b
		}
	}
	return b
}
