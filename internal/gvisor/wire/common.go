package wire

// Context is what a message says of the thread that caused it. Of each value the
// session says whether it is sent; what is not is zero. Ids are those of the
// sandbox's root pid namespace and have nothing to do with the host's; times are
// nanoseconds of the sandbox's real-time clock.
type Context struct {
	TimeNs                 int64
	ThreadID               int32
	ThreadStartTimeNs      int64
	ThreadGroupID          int32
	ThreadGroupStartTimeNs int64
	ContainerID            []byte
	HasCredentials         bool
	Credentials            Credentials
	Cwd                    []byte
	ProcessName            []byte
	ParentThreadGroupID    int32
	IsExecSession          bool // started by exec in a running container
}

func (x *Context) fields(c *coder) {
	integer(c, 1, &x.TimeNs)
	integer(c, 2, &x.ThreadID)
	integer(c, 3, &x.ThreadStartTimeNs)
	integer(c, 4, &x.ThreadGroupID)
	integer(c, 5, &x.ThreadGroupStartTimeNs)
	text(c, 6, &x.ContainerID)
	part(c, 7, &x.HasCredentials, &x.Credentials)
	text(c, 8, &x.Cwd)
	text(c, 9, &x.ProcessName)
	integer(c, 10, &x.ParentThreadGroupID)
	boolean(c, 11, &x.IsExecSession)
}

// Credentials are a thread's user and group ids.
type Credentials struct {
	RealUID, EffectiveUID, SavedUID uint32
	RealGID, EffectiveGID, SavedGID uint32
}

func (x *Credentials) fields(c *coder) {
	integer(c, 1, &x.RealUID)
	integer(c, 2, &x.EffectiveUID)
	integer(c, 3, &x.SavedUID)
	integer(c, 4, &x.RealGID)
	integer(c, 5, &x.EffectiveGID)
	integer(c, 6, &x.SavedGID)
}

// Timespec is a time or a duration.
type Timespec struct{ Sec, Nsec int64 }

func (x *Timespec) fields(c *coder) {
	integer(c, 1, &x.Sec)
	integer(c, 2, &x.Nsec)
}

// Origin is what every message begins with: who caused it.
type Origin struct {
	HasContextData bool
	ContextData    Context
}

func (x *Origin) fields(c *coder) { part(c, 1, &x.HasContextData, &x.ContextData) }

// Cause implements Message.
func (x *Origin) Cause() *Context { return &x.ContextData }
