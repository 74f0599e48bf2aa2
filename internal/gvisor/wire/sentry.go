package wire

// ContainerStart says that a container starts, before its first process runs.
type ContainerStart struct {
	Origin
	ID        []byte // of the container
	Cwd       []byte
	Args, Env [][]byte // environment only if the session wants it
	Terminal  bool
}

// MessageType implements Message.
func (*ContainerStart) MessageType() Type { return TypeContainerStart }

func (x *ContainerStart) fields(c *coder) {
	x.Origin.fields(c)
	text(c, 2, &x.ID)
	text(c, 3, &x.Cwd)
	list(c, 4, &x.Args)
	list(c, 5, &x.Env)
	boolean(c, 6, &x.Terminal)
}

// SentryClone says that a thread or process was created.
type SentryClone struct {
	Origin
	CreatedThreadID          int32
	CreatedThreadGroupID     int32
	CreatedThreadStartTimeNs int64
	Flags                    uint64 // CLONE_*
}

// MessageType implements Message.
func (*SentryClone) MessageType() Type { return TypeSentryClone }

func (x *SentryClone) fields(c *coder) {
	x.Origin.fields(c)
	integer(c, 3, &x.CreatedThreadID)
	integer(c, 4, &x.CreatedThreadGroupID)
	integer(c, 5, &x.CreatedThreadStartTimeNs)
	integer(c, 6, &x.Flags)
}

// SentryExec says that a program is about to run. What is said of the binary, its hashes,
// the standard files and the pipes comes only if the session wants it.
type SentryExec struct {
	Origin
	BinaryPath                     []byte
	Argv, Env                      [][]byte
	BinaryMode, BinaryUID          uint32
	BinaryGID                      uint32
	BinarySha256                   []byte
	BinaryOverlayfsUpper           bool // written after the image was made
	BinaryIno                      uint64
	HasBinaryCtime                 bool
	BinaryCtime                    Timespec
	HasStdin, HasStdout, HasStderr bool
	Stdin, Stdout, Stderr          File
	BinaryOverlayfsLower           bool
	BinarySha1                     []byte
	Execfn                         []byte // as execve was given it
	BinarySize                     int64
	BinaryNlink                    uint32
	BinaryInMemfd                  bool
	HasPipeInputProc               bool
	PipeInputProc                  Origin // who is at the other end of a pipe
	HasPipeOutputProc              bool
	PipeOutputProc                 Origin
}

// MessageType implements Message.
func (*SentryExec) MessageType() Type { return TypeSentryExec }

func (x *SentryExec) fields(c *coder) {
	x.Origin.fields(c)
	text(c, 2, &x.BinaryPath)
	list(c, 3, &x.Argv)
	list(c, 4, &x.Env)
	integer(c, 5, &x.BinaryMode)
	integer(c, 6, &x.BinaryUID)
	integer(c, 7, &x.BinaryGID)
	text(c, 8, &x.BinarySha256)
	boolean(c, 9, &x.BinaryOverlayfsUpper)
	integer(c, 10, &x.BinaryIno)
	part(c, 11, &x.HasBinaryCtime, &x.BinaryCtime)
	part(c, 12, &x.HasStdin, &x.Stdin)
	part(c, 13, &x.HasStdout, &x.Stdout)
	part(c, 14, &x.HasStderr, &x.Stderr)
	boolean(c, 15, &x.BinaryOverlayfsLower)
	text(c, 16, &x.BinarySha1)
	text(c, 17, &x.Execfn)
	integer(c, 18, &x.BinarySize)
	integer(c, 19, &x.BinaryNlink)
	boolean(c, 20, &x.BinaryInMemfd)
	part(c, 21, &x.HasPipeInputProc, &x.PipeInputProc)
	part(c, 22, &x.HasPipeOutputProc, &x.PipeOutputProc)
}

// File is what a descriptor stands for.
type File struct {
	Mode      uint32
	Ino       uint64
	Path      []byte
	HasSocket bool
	Socket    SocketEnds
}

func (x *File) fields(c *coder) {
	integer(c, 1, &x.Mode)
	integer(c, 2, &x.Ino)
	text(c, 3, &x.Path)
	part(c, 4, &x.HasSocket, &x.Socket)
}

// SocketEnds are the addresses of a socket.
type SocketEnds struct {
	Family              uint32
	HasLocal, HasRemote bool
	Local, Remote       SocketEnd
}

func (x *SocketEnds) fields(c *coder) {
	integer(c, 1, &x.Family)
	part(c, 2, &x.HasLocal, &x.Local)
	part(c, 3, &x.HasRemote, &x.Remote)
}

// SocketEnd is one address.
type SocketEnd struct {
	Family uint32
	IP     []byte
	Port   uint32
}

func (x *SocketEnd) fields(c *coder) {
	integer(c, 1, &x.Family)
	text(c, 2, &x.IP)
	integer(c, 3, &x.Port)
}

// ExitStatus is how a thread ended, in the form that wait gives: a program that
// returns 1 has 256.
type ExitStatus struct {
	Origin
	ExitStatus int32
}

func (x *ExitStatus) fields(c *coder) {
	x.Origin.fields(c)
	integer(c, 2, &x.ExitStatus)
}

// SentryExitNotifyParent says that a process has ended and its parent is told.
type SentryExitNotifyParent struct{ ExitStatus }

// MessageType implements Message.
func (*SentryExitNotifyParent) MessageType() Type { return TypeSentryExitNotifyParent }

// SentryTaskExit says that a thread has ended.
type SentryTaskExit struct{ ExitStatus }

// MessageType implements Message.
func (*SentryTaskExit) MessageType() Type { return TypeSentryTaskExit }

// SentryMmap says that a file was mapped executable.
type SentryMmap struct {
	Origin
	MappedPath           []byte
	MappedIno            uint64
	MappedMode           uint32
	MappedUID, MappedGID uint32
	IsInitialMmap        bool // of the program itself, at its start
	HasMappedCtime       bool
	MappedCtime          Timespec
	OverlayfsUpper       bool
	OverlayfsLower       bool
}

// MessageType implements Message.
func (*SentryMmap) MessageType() Type { return TypeSentryMmap }

func (x *SentryMmap) fields(c *coder) {
	x.Origin.fields(c)
	text(c, 2, &x.MappedPath)
	integer(c, 3, &x.MappedIno)
	integer(c, 4, &x.MappedMode)
	integer(c, 5, &x.MappedUID)
	integer(c, 6, &x.MappedGID)
	boolean(c, 7, &x.IsInitialMmap)
	part(c, 8, &x.HasMappedCtime, &x.MappedCtime)
	boolean(c, 9, &x.OverlayfsUpper)
	boolean(c, 10, &x.OverlayfsLower)
}
