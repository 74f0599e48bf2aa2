package event

import (
	"slices"
	"strconv"
	"strings"
)

// CallTable is where the numbers of system calls end that points may name.
const CallTable = 512

// Call is one end of a system call. What its arguments point at was read from the
// caller's memory, which the caller may change meanwhile: a hint, not the truth.
type Call struct {
	Number uint16
	Exit   bool
	Result int64 // exit: what it returned; from -4095 to -1 an error number, negated
	Args   [6]uint64
}

// Errno returns the error with which the call ended, 0 for none.
func (c *Call) Errno() int {
	if c.Result < 0 && c.Result >= -4095 {
		return int(-c.Result)
	}
	return 0
}

// CallPoint names one end of a system call: syscall/openat/exit, or as one that is
// told with nothing but its bare arguments syscall/sysno/257/exit.
type CallPoint struct {
	Number uint16
	Exit   bool
	Raw    bool
}

const (
	callPrefix = "syscall/"
	rawPrefix  = "sysno/"
)

// ParseCallPoint returns the point of that name.
func ParseCallPoint(name string) (p CallPoint, ok bool) {
	name, ok = strings.CutPrefix(name, callPrefix)
	cut := strings.LastIndexByte(name, '/')
	if !ok || cut < 0 {
		return p, false
	}
	call, end := name[:cut], name[cut+1:]
	if p.Exit = end == "exit"; !p.Exit && end != "enter" {
		return p, false
	}
	if number, raw := strings.CutPrefix(call, rawPrefix); raw {
		n, err := strconv.ParseUint(number, 10, 16)
		p.Raw, p.Number = true, uint16(n)
		return p, err == nil && n < CallTable && number == strconv.FormatUint(n, 10)
	}
	i := slices.IndexFunc(calls, func(s CallSchema) bool { return s.Name == call })
	if i < 0 {
		return p, false
	}
	p.Number = calls[i].Number
	return p, true
}

// AppendTo appends the point's name.
func (p CallPoint) AppendTo(b []byte) []byte {
	b = append(b, callPrefix...)
	if s := SchemaOf(p.Number); s != nil && !p.Raw {
		b = append(b, s.Name...)
	} else {
		b = strconv.AppendUint(append(b, rawPrefix...), uint64(p.Number), 10)
	}
	if p.Exit {
		return append(b, "/exit"...)
	}
	return append(b, "/enter"...)
}

// OptionalFields returns the fields that only some points can tell, and this one does.
func (p CallPoint) OptionalFields() (f Fields) {
	s := SchemaOf(p.Number)
	if s == nil || p.Raw {
		return 0
	}
	if s.Environment > 0 {
		f |= FieldEnvironment
	}
	if s.Descriptor() > 0 {
		f |= FieldFDPath
	}
	return f
}

func (p CallPoint) String() string { return string(p.AppendTo(nil)) }

// AllCallPoints returns every point of a system call, those with a schema first.
func AllCallPoints() []CallPoint {
	var all []CallPoint
	add := func(number uint16, raw bool) {
		all = append(all, CallPoint{number, false, raw}, CallPoint{number, true, raw})
	}
	for i := range calls {
		add(calls[i].Number, false)
	}
	for n := range uint16(CallTable) {
		add(n, true)
	}
	return all
}

// CallSet is a set of ends of system calls.
type CallSet [2][CallTable / 64]uint64

// Add adds one end of a call.
func (s *CallSet) Add(p CallPoint) {
	end := 0
	if p.Exit {
		end = 1
	}
	s[end][p.Number/64] |= 1 << (p.Number % 64)
}

// WantedCalls are the ends of calls that somebody wants to be told of.
type WantedCalls struct {
	All         CallSet
	Texts       CallSet // those of which what the arguments point at is wanted, too
	Environment CallSet // those of which the environment is wanted besides
	FDPaths     CallSet // those of which the path of their descriptor is wanted besides
}

// Add adds what a session wants of one end of a call.
func (w *WantedCalls) Add(p CallPoint, fields Fields) {
	w.All.Add(p)
	if !p.Raw {
		w.Texts.Add(p)
	}
	if !p.Raw && fields&FieldEnvironment != 0 {
		w.Environment.Add(p)
	}
	if !p.Raw && fields&FieldFDPath != 0 {
		w.FDPaths.Add(p)
	}
}

// Plus returns what either of two wants.
func (w WantedCalls) Plus(o WantedCalls) WantedCalls {
	w.All.join(&o.All)
	w.Texts.join(&o.Texts)
	w.Environment.join(&o.Environment)
	w.FDPaths.join(&o.FDPaths)
	return w
}

func (s *CallSet) join(o *CallSet) {
	for end := range s {
		for i := range s[end] {
			s[end][i] |= o[end][i]
		}
	}
}
