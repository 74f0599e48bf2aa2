package event

import "runtime"

// CallSchema says what the arguments of a system call are.
type CallSchema struct {
	Name   string
	Number uint16
	Fields []CallField
	// Path, Strings and Environment are the arguments that point at a file name, a list
	// of strings and the environment, counted from 1; 0 for none.
	Path, Strings, Environment uint8
	// In is memory that the call is given, Out what it has filled when it succeeds.
	In, Out CallBlock
}

// Descriptor is the argument, counted from 1, that is a descriptor of an open file or the
// working directory; 0 for none.
func (s *CallSchema) Descriptor() uint8 {
	for i := range s.Fields {
		if f := &s.Fields[i]; f.Kind == CallInt32 && (f.Name == "fd" || f.Name == "old_fd") {
			return f.At + 1
		}
	}
	return 0
}

// CallBlock is memory that an argument, counted from 1, points at.
type CallBlock struct{ Arg, Size uint8 }

// AddressSize is the size of a block that is a socket's address: the argument behind
// its own says how long it is.
const AddressSize = 255

// CallField is one value of a call.
type CallField struct {
	Name string
	Kind CallKind
	At   uint8 // number of the argument from 0, or the place in the block in bytes
}

// CallKind says what a value is and where it lies.
type CallKind uint8

// The kinds.
const (
	CallInt32       CallKind = iota // an argument, signed: a descriptor, a number
	CallInt64                       // an argument, signed
	CallUint32                      // an argument: flags, ids
	CallUint64                      // an argument: sizes, addresses
	CallPath                        // TextPath
	CallStrings                     // TextArgs
	CallEnvironment                 // TextEnv, where it is wanted
	CallAddressIn                   // all of TextIn, a raw sockaddr
	CallAddressOut                  // all of TextOut, a raw sockaddr
	CallIn64                        // in TextIn, 64 bits wide
	CallOut64                       // in TextOut, 64 bits wide
	CallOut32                       // in TextOut, 32 bits wide and signed
)

// SchemaOf returns the schema of a system call, nil if it has none.
func SchemaOf(number uint16) *CallSchema {
	if int(number) < len(byNumber) && byNumber[number] > 0 {
		return &calls[byNumber[number]-1]
	}
	return nil
}

// CallSchemas returns all schemas that this architecture has calls for.
func CallSchemas() []CallSchema { return calls }

// CloneTLS is the number of the argument of clone, from 0, that architectures disagree on.
func CloneTLS() uint8 {
	if runtime.GOARCH == "arm64" {
		return 3
	}
	return 4
}

// none is the number of a call that an architecture has not.
const none = CallTable

// nr is the number of a call on this architecture.
func nr(amd64, arm64 uint16) uint16 {
	if runtime.GOARCH == "arm64" {
		return arm64
	}
	return amd64
}

var (
	calls    = here(schemas())
	byNumber = index(calls)
)

// here leaves out the calls that this architecture has not.
func here(all []CallSchema) (some []CallSchema) {
	for _, s := range all {
		if s.Number != none {
			some = append(some, s)
		}
	}
	return some
}

func index(all []CallSchema) (by [CallTable]uint8) {
	for i := range all {
		by[all[i].Number] = uint8(i + 1)
	}
	return by
}

func i32(name string, at uint8) CallField  { return CallField{name, CallInt32, at} }
func i64(name string, at uint8) CallField  { return CallField{name, CallInt64, at} }
func u32(name string, at uint8) CallField  { return CallField{name, CallUint32, at} }
func u64(name string, at uint8) CallField  { return CallField{name, CallUint64, at} }
func in64(name string, at uint8) CallField { return CallField{name, CallIn64, at} }
func out64(name string, at uint8) CallField {
	return CallField{name, CallOut64, at}
}
func out32(name string, at uint8) CallField { return CallField{name, CallOut32, at} }

var (
	pathname   = CallField{Name: "pathname", Kind: CallPath}
	argv       = CallField{Name: "argv", Kind: CallStrings}
	envv       = CallField{Name: "envv", Kind: CallEnvironment}
	addressIn  = CallField{Name: "address", Kind: CallAddressIn}
	addressOut = CallField{Name: "address", Kind: CallAddressOut}
)

// timer are the fields of an itimerspec, in the order of its memory.
func timer(name string, field func(string, uint8) CallField) []CallField {
	return []CallField{
		field(name+"_interval_sec", 0), field(name+"_interval_nsec", 8), field(name+"_value_sec", 16), field(name+"_value_nsec", 24),
	}
}

// Sizes of blocks.
const (
	pairSize   = 8  // two descriptors
	limitSize  = 16 // struct rlimit64
	timerSize  = 32 // struct itimerspec
	sigsetSize = 8
)

type fields = []CallField

// schemas are the calls with a schema: those that gVisor gives one.
func schemas() []CallSchema {
	var (
		fd     = i32("fd", 0)
		rw     = fields{fd, u64("count", 2)}
		rwAt   = fields{fd, u64("count", 2), i64("offset", 3)}
		rwv2   = append(rwAt[:3:3], u32("flags", 5))
		socket = fields{i32("domain", 0), i32("type", 1), i32("protocol", 2)}
		ids    = fields{u32("rid", 0), u32("eid", 1), u32("sid", 2)}
		id     = fields{u32("id", 0)}
	)
	return []CallSchema{
		{Name: "read", Number: nr(0, 63), Fields: rw},
		{Name: "write", Number: nr(1, 64), Fields: rw},
		{Name: "readv", Number: nr(19, 65), Fields: rw},
		{Name: "writev", Number: nr(20, 66), Fields: rw},
		{Name: "pread64", Number: nr(17, 67), Fields: rwAt},
		{Name: "pwrite64", Number: nr(18, 68), Fields: rwAt},
		{Name: "preadv", Number: nr(295, 69), Fields: rwAt},
		{Name: "pwritev", Number: nr(296, 70), Fields: rwAt},
		{Name: "preadv2", Number: nr(327, 286), Fields: rwv2},
		{Name: "pwritev2", Number: nr(328, 287), Fields: rwv2},

		{Name: "open", Number: nr(2, none), Fields: fields{pathname, u32("flags", 1), u32("mode", 2)}, Path: 1},
		{Name: "openat", Number: nr(257, 56), Fields: fields{fd, pathname, u32("flags", 2), u32("mode", 3)}, Path: 2},
		{Name: "creat", Number: nr(85, none), Fields: fields{pathname, u32("mode", 1)}, Path: 1},
		{Name: "close", Number: nr(3, 57), Fields: fields{fd}},
		{Name: "dup", Number: nr(32, 23), Fields: fields{i32("old_fd", 0)}},
		{Name: "dup2", Number: nr(33, none), Fields: fields{i32("old_fd", 0), i32("new_fd", 1)}},
		{Name: "dup3", Number: nr(292, 24), Fields: fields{i32("old_fd", 0), i32("new_fd", 1), u32("flags", 2)}},
		{Name: "fcntl", Number: nr(72, 25), Fields: fields{fd, i32("cmd", 1), i64("args", 2)}},
		{Name: "pipe", Number: nr(22, none), Fields: fields{out32("reader", 0), out32("writer", 4)}, Out: CallBlock{1, pairSize}},
		{Name: "pipe2", Number: nr(293, 59), Fields: fields{u32("flags", 1), out32("reader", 0), out32("writer", 4)}, Out: CallBlock{1, pairSize}},
		{Name: "chdir", Number: nr(80, 49), Fields: fields{pathname}, Path: 1},
		{Name: "fchdir", Number: nr(81, 50), Fields: fields{fd}},
		{Name: "chroot", Number: nr(161, 51), Fields: fields{pathname}, Path: 1},
		{Name: "mmap", Number: nr(9, 222), Fields: fields{u64("addr", 0), u64("length", 1), u32("prot", 2), u32("flags", 3), i32("fd", 4), i64("offset", 5)}},
		{Name: "inotify_init", Number: nr(253, none)},
		{Name: "inotify_init1", Number: nr(294, 26), Fields: fields{u32("flags", 0)}},
		{Name: "inotify_add_watch", Number: nr(254, 27), Fields: fields{fd, pathname, u32("mask", 2)}, Path: 2},
		{Name: "inotify_rm_watch", Number: nr(255, 28), Fields: fields{fd, i32("wd", 1)}},

		{Name: "socket", Number: nr(41, 198), Fields: socket},
		{Name: "socketpair", Number: nr(53, 199), Fields: append(socket[:3:3], out32("socket1", 0), out32("socket2", 4)), Out: CallBlock{4, pairSize}},
		{Name: "connect", Number: nr(42, 203), Fields: fields{fd, addressIn}, In: CallBlock{2, AddressSize}},
		{Name: "bind", Number: nr(49, 200), Fields: fields{fd, addressIn}, In: CallBlock{2, AddressSize}},
		{Name: "accept", Number: nr(43, 202), Fields: fields{fd, addressOut}, Out: CallBlock{2, AddressSize}},
		{Name: "accept4", Number: nr(288, 242), Fields: fields{fd, u32("flags", 3), addressOut}, Out: CallBlock{2, AddressSize}},
		{Name: "listen", Number: nr(50, 201), Fields: fields{fd, i32("backlog", 1)}},

		{Name: "clone", Number: nr(56, 220), Fields: fields{u64("flags", 0), u64("stack", 1), u64("new_tid", 2), u64("tls", CloneTLS())}},
		{Name: "fork", Number: nr(57, none)},
		{Name: "vfork", Number: nr(58, none)},
		{Name: "execve", Number: nr(59, 221), Fields: fields{pathname, argv, envv}, Path: 1, Strings: 2, Environment: 3},
		{Name: "execveat", Number: nr(322, 281), Fields: fields{fd, pathname, u32("flags", 4), argv, envv}, Path: 2, Strings: 3, Environment: 4},
		{Name: "ptrace", Number: nr(101, 117), Fields: fields{i64("request", 0), i32("pid", 1)}},
		{Name: "setuid", Number: nr(105, 146), Fields: id},
		{Name: "setgid", Number: nr(106, 144), Fields: id},
		{Name: "setsid", Number: nr(112, 157)},
		{Name: "setresuid", Number: nr(117, 147), Fields: ids},
		{Name: "setresgid", Number: nr(119, 149), Fields: ids},
		{Name: "prlimit64", Number: nr(302, 261), In: CallBlock{3, limitSize}, Out: CallBlock{4, limitSize}, Fields: fields{
			i32("pid", 0), i32("resource", 1), in64("new_cur", 0), in64("new_max", 8), out64("old_cur", 0), out64("old_max", 8),
		}},
		{Name: "signalfd", Number: nr(282, none), Fields: fields{fd, in64("sigset", 0)}, In: CallBlock{2, sigsetSize}},
		{Name: "signalfd4", Number: nr(289, 74), Fields: fields{fd, u32("flags", 3), in64("sigset", 0)}, In: CallBlock{2, sigsetSize}},
		{Name: "eventfd", Number: nr(284, none), Fields: fields{u32("val", 0)}},
		{Name: "eventfd2", Number: nr(290, 19), Fields: fields{u32("val", 0), u32("flags", 1)}},
		{Name: "timerfd_create", Number: nr(283, 85), Fields: fields{i32("clock_id", 0), u32("flags", 1)}},
		{
			Name: "timerfd_settime", Number: nr(286, 86), In: CallBlock{3, timerSize}, Out: CallBlock{4, timerSize},
			Fields: append(append(fields{fd, u32("flags", 1)}, timer("new", in64)...), timer("old", out64)...),
		},
		{Name: "timerfd_gettime", Number: nr(287, 87), Fields: append(fields{fd}, timer("cur", out64)...), Out: CallBlock{2, timerSize}},
	}
}
