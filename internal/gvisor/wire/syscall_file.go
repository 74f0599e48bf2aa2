package wire

// Open is a call of open, openat or creat. The descriptor of open is AT_FDCWD.
type Open struct {
	Call
	FD               int64
	FDPath, Pathname []byte
	Flags, Mode      uint32
}

// MessageType implements Message.
func (*Open) MessageType() Type { return TypeSyscallOpen }

func (x *Open) fields(c *coder) {
	x.Call.fields(c)
	integer(c, 4, &x.FD)
	text(c, 5, &x.FDPath)
	text(c, 6, &x.Pathname)
	integer(c, 7, &x.Flags)
	integer(c, 8, &x.Mode)
}

// Close is a call of close.
type Close struct {
	Call
	FD     int64
	FDPath []byte
}

// MessageType implements Message.
func (*Close) MessageType() Type { return TypeSyscallClose }

func (x *Close) fields(c *coder) {
	x.Call.fields(c)
	integer(c, 4, &x.FD)
	text(c, 5, &x.FDPath)
}

// Read is a call of read, pread64, readv, preadv or preadv2.
type Read struct {
	Call
	FD        int64
	FDPath    []byte
	Count     uint64
	HasOffset bool
	Offset    int64
	Flags     uint32
}

// MessageType implements Message.
func (*Read) MessageType() Type { return TypeSyscallRead }

func (x *Read) fields(c *coder) {
	x.Call.fields(c)
	integer(c, 4, &x.FD)
	text(c, 5, &x.FDPath)
	integer(c, 6, &x.Count)
	boolean(c, 7, &x.HasOffset)
	integer(c, 8, &x.Offset)
	integer(c, 9, &x.Flags)
}

// Write is a call of write, pwrite64, writev, pwritev or pwritev2.
type Write struct {
	Call
	FD        int64
	FDPath    []byte
	Count     uint64
	HasOffset bool
	Offset    int64
	Flags     uint32
}

// MessageType implements Message.
func (*Write) MessageType() Type { return TypeSyscallWrite }

func (x *Write) fields(c *coder) {
	x.Call.fields(c)
	integer(c, 4, &x.FD)
	text(c, 5, &x.FDPath)
	integer(c, 6, &x.Count)
	boolean(c, 7, &x.HasOffset)
	integer(c, 8, &x.Offset)
	integer(c, 9, &x.Flags)
}

// Chdir is a call of chdir or fchdir.
type Chdir struct {
	Call
	FD               int64
	FDPath, Pathname []byte
}

// MessageType implements Message.
func (*Chdir) MessageType() Type { return TypeSyscallChdir }

func (x *Chdir) fields(c *coder) {
	x.Call.fields(c)
	integer(c, 4, &x.FD)
	text(c, 5, &x.FDPath)
	text(c, 6, &x.Pathname)
}

// Chroot is a call of chroot.
type Chroot struct {
	Call
	Pathname []byte
}

// MessageType implements Message.
func (*Chroot) MessageType() Type { return TypeSyscallChroot }

func (x *Chroot) fields(c *coder) {
	x.Call.fields(c)
	text(c, 4, &x.Pathname)
}

// Pipe is a call of pipe or pipe2.
type Pipe struct {
	Call
	Flags          uint32
	Reader, Writer int32
}

// MessageType implements Message.
func (*Pipe) MessageType() Type { return TypeSyscallPipe }

func (x *Pipe) fields(c *coder) {
	x.Call.fields(c)
	integer(c, 4, &x.Flags)
	integer(c, 5, &x.Reader)
	integer(c, 6, &x.Writer)
}

// Fcntl is a call of fcntl.
type Fcntl struct {
	Call
	FD     int32
	FDPath []byte
	Cmd    int32
	Args   int64
}

// MessageType implements Message.
func (*Fcntl) MessageType() Type { return TypeSyscallFcntl }

func (x *Fcntl) fields(c *coder) {
	x.Call.fields(c)
	integer(c, 4, &x.FD)
	text(c, 5, &x.FDPath)
	integer(c, 6, &x.Cmd)
	integer(c, 7, &x.Args)
}

// Dup is a call of dup, dup2 or dup3.
type Dup struct {
	Call
	OldFD, NewFD int32
	FDPath       []byte
	Flags        uint32
}

// MessageType implements Message.
func (*Dup) MessageType() Type { return TypeSyscallDup }

func (x *Dup) fields(c *coder) {
	x.Call.fields(c)
	integer(c, 4, &x.OldFD)
	integer(c, 5, &x.NewFD)
	text(c, 6, &x.FDPath)
	integer(c, 7, &x.Flags)
}

// InotifyInit is a call of inotify_init or inotify_init1.
type InotifyInit struct {
	Call
	Flags int32
}

// MessageType implements Message.
func (*InotifyInit) MessageType() Type { return TypeSyscallInotifyInit }

func (x *InotifyInit) fields(c *coder) {
	x.Call.fields(c)
	integer(c, 4, &x.Flags)
}

// InotifyAddWatch is a call of inotify_add_watch.
type InotifyAddWatch struct {
	Call
	FD               int32
	FDPath, Pathname []byte
	Mask             uint32
}

// MessageType implements Message.
func (*InotifyAddWatch) MessageType() Type { return TypeSyscallInotifyAddWatch }

func (x *InotifyAddWatch) fields(c *coder) {
	x.Call.fields(c)
	integer(c, 4, &x.FD)
	text(c, 5, &x.FDPath)
	text(c, 6, &x.Pathname)
	integer(c, 7, &x.Mask)
}

// InotifyRmWatch is a call of inotify_rm_watch.
type InotifyRmWatch struct {
	Call
	FD     int32
	FDPath []byte
	WD     int32
}

// MessageType implements Message.
func (*InotifyRmWatch) MessageType() Type { return TypeSyscallInotifyRmWatch }

func (x *InotifyRmWatch) fields(c *coder) {
	x.Call.fields(c)
	integer(c, 4, &x.FD)
	text(c, 5, &x.FDPath)
	integer(c, 6, &x.WD)
}

// Mmap is a call of mmap.
type Mmap struct {
	Call
	FD           int64
	FDPath       []byte
	Addr, Length uint64
	Prot, Flags  uint32
	Offset       int64
}

// MessageType implements Message.
func (*Mmap) MessageType() Type { return TypeSyscallMmap }

func (x *Mmap) fields(c *coder) {
	x.Call.fields(c)
	integer(c, 4, &x.FD)
	text(c, 5, &x.FDPath)
	integer(c, 6, &x.Addr)
	integer(c, 7, &x.Length)
	integer(c, 8, &x.Prot)
	integer(c, 9, &x.Flags)
	integer(c, 10, &x.Offset)
}

// Eventfd is a call of eventfd or eventfd2.
type Eventfd struct {
	Call
	Val   int32
	Flags uint32
}

// MessageType implements Message.
func (*Eventfd) MessageType() Type { return TypeSyscallEventfd }

func (x *Eventfd) fields(c *coder) {
	x.Call.fields(c)
	integer(c, 4, &x.Val)
	integer(c, 5, &x.Flags)
}
