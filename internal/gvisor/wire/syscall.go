package wire

// Exit is the result of a system call.
type Exit struct {
	Result  int64
	Errorno int64 // an errno, positive; 0 for none
}

func (x *Exit) fields(c *coder) {
	integer(c, 1, &x.Result)
	integer(c, 2, &x.Errorno)
}

// Call is what every system call's message begins with. HasExit alone tells the
// exit of a call from its entry.
type Call struct {
	Origin
	HasExit bool
	Exit    Exit
	Sysno   uint64
}

func (x *Call) fields(c *coder) {
	x.Origin.fields(c)
	part(c, 2, &x.HasExit, &x.Exit)
	integer(c, 3, &x.Sysno)
}

// Syscall returns the call, which all messages that embed one have in common.
func (x *Call) Syscall() *Call { return x }

// Raw is a system call without a message of its own, or one that the session
// wants with its bare arguments.
type Raw struct {
	Call
	Arg1, Arg2, Arg3, Arg4, Arg5, Arg6 uint64
}

// MessageType implements Message.
func (*Raw) MessageType() Type { return TypeSyscallRaw }

// fields differs from the other calls': the call's number is field 4.
func (x *Raw) fields(c *coder) {
	x.Origin.fields(c)
	part(c, 2, &x.HasExit, &x.Exit)
	integer(c, 4, &x.Sysno)
	integer(c, 5, &x.Arg1)
	integer(c, 6, &x.Arg2)
	integer(c, 7, &x.Arg3)
	integer(c, 8, &x.Arg4)
	integer(c, 9, &x.Arg5)
	integer(c, 10, &x.Arg6)
}
