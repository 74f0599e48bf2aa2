package wire

// Execve is a call of execve or execveat.
type Execve struct {
	Call
	FD               int64
	FDPath, Pathname []byte
	Argv, Envv       [][]byte
	Flags            uint32
}

// MessageType implements Message.
func (*Execve) MessageType() Type { return TypeSyscallExecve }

func (x *Execve) fields(c *coder) {
	x.Call.fields(c)
	integer(c, 4, &x.FD)
	text(c, 5, &x.FDPath)
	text(c, 6, &x.Pathname)
	list(c, 7, &x.Argv)
	list(c, 8, &x.Envv)
	integer(c, 9, &x.Flags)
}

// Fork is a call of fork or vfork.
type Fork struct {
	Call
}

// MessageType implements Message.
func (*Fork) MessageType() Type { return TypeSyscallFork }

// Clone is a call of clone.
type Clone struct {
	Call
	Flags, Stack, NewTID, TLS uint64
}

// MessageType implements Message.
func (*Clone) MessageType() Type { return TypeSyscallClone }

func (x *Clone) fields(c *coder) {
	x.Call.fields(c)
	integer(c, 4, &x.Flags)
	integer(c, 5, &x.Stack)
	integer(c, 6, &x.NewTID)
	integer(c, 7, &x.TLS)
}

// Ptrace is a call of ptrace.
type Ptrace struct {
	Call
	Request int64
	PID     int32
}

// MessageType implements Message.
func (*Ptrace) MessageType() Type { return TypeSyscallPtrace }

func (x *Ptrace) fields(c *coder) {
	x.Call.fields(c)
	integer(c, 4, &x.Request)
	integer(c, 5, &x.PID)
}

// Setid is a call of setuid, setgid or setsid.
type Setid struct {
	Call
	ID uint32
}

// MessageType implements Message.
func (*Setid) MessageType() Type { return TypeSyscallSetid }

func (x *Setid) fields(c *coder) {
	x.Call.fields(c)
	integer(c, 4, &x.ID)
}

// Setresid is a call of setresuid or setresgid.
type Setresid struct {
	Call
	RID, EID, SID uint32
}

// MessageType implements Message.
func (*Setresid) MessageType() Type { return TypeSyscallSetresid }

func (x *Setresid) fields(c *coder) {
	x.Call.fields(c)
	integer(c, 4, &x.RID)
	integer(c, 5, &x.EID)
	integer(c, 6, &x.SID)
}

// Prlimit is a call of prlimit64.
type Prlimit struct {
	Call
	PID         int32
	Resource    int64
	HasNewLimit bool
	NewLimit    Limit
	HasOldLimit bool
	OldLimit    Limit
}

// MessageType implements Message.
func (*Prlimit) MessageType() Type { return TypeSyscallPrlimit64 }

func (x *Prlimit) fields(c *coder) {
	x.Call.fields(c)
	integer(c, 4, &x.PID)
	integer(c, 5, &x.Resource)
	part(c, 6, &x.HasNewLimit, &x.NewLimit)
	part(c, 7, &x.HasOldLimit, &x.OldLimit)
}

// Signalfd is a call of signalfd or signalfd4.
type Signalfd struct {
	Call
	FD     int32
	FDPath []byte
	Sigset uint64
	Flags  int32
}

// MessageType implements Message.
func (*Signalfd) MessageType() Type { return TypeSyscallSignalfd }

func (x *Signalfd) fields(c *coder) {
	x.Call.fields(c)
	integer(c, 4, &x.FD)
	text(c, 5, &x.FDPath)
	integer(c, 6, &x.Sigset)
	integer(c, 7, &x.Flags)
}

// TimerfdCreate is a call of timerfd_create.
type TimerfdCreate struct {
	Call
	ClockID, Flags int32
}

// MessageType implements Message.
func (*TimerfdCreate) MessageType() Type { return TypeSyscallTimerfdCreate }

func (x *TimerfdCreate) fields(c *coder) {
	x.Call.fields(c)
	integer(c, 4, &x.ClockID)
	integer(c, 5, &x.Flags)
}

// TimerfdSetTime is a call of timerfd_settime.
type TimerfdSetTime struct {
	Call
	FD          int32
	FDPath      []byte
	Flags       int32
	HasNewValue bool
	NewValue    Itimer
	HasOldValue bool
	OldValue    Itimer
}

// MessageType implements Message.
func (*TimerfdSetTime) MessageType() Type { return TypeSyscallTimerfdSettime }

func (x *TimerfdSetTime) fields(c *coder) {
	x.Call.fields(c)
	integer(c, 4, &x.FD)
	text(c, 5, &x.FDPath)
	integer(c, 6, &x.Flags)
	part(c, 7, &x.HasNewValue, &x.NewValue)
	part(c, 8, &x.HasOldValue, &x.OldValue)
}

// TimerfdGetTime is a call of timerfd_gettime.
type TimerfdGetTime struct {
	Call
	FD          int32
	FDPath      []byte
	HasCurValue bool
	CurValue    Itimer
}

// MessageType implements Message.
func (*TimerfdGetTime) MessageType() Type { return TypeSyscallTimerfdGettime }

func (x *TimerfdGetTime) fields(c *coder) {
	x.Call.fields(c)
	integer(c, 4, &x.FD)
	text(c, 5, &x.FDPath)
	part(c, 6, &x.HasCurValue, &x.CurValue)
}

// Limit is a resource limit.
type Limit struct{ Cur, Max uint64 }

func (x *Limit) fields(c *coder) {
	integer(c, 1, &x.Cur)
	integer(c, 2, &x.Max)
}

// Itimer is a timer's setting.
type Itimer struct {
	HasInterval bool
	Interval    Timespec
	HasValue    bool
	Value       Timespec
}

func (x *Itimer) fields(c *coder) {
	part(c, 1, &x.HasInterval, &x.Interval)
	part(c, 2, &x.HasValue, &x.Value)
}
