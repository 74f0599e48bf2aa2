package wire

// Type is the number of a message's type, as the header states it.
type Type uint16

// The types of messages. Later versions of gVisor may have more; messages of a
// type that is not known are skipped.
const (
	TypeUnknown Type = iota
	TypeContainerStart
	TypeSentryClone
	TypeSentryExec
	TypeSentryExitNotifyParent
	TypeSentryTaskExit
	TypeSyscallRaw
	TypeSyscallOpen
	TypeSyscallClose
	TypeSyscallRead
	TypeSyscallConnect
	TypeSyscallExecve
	TypeSyscallSocket
	TypeSyscallChdir
	TypeSyscallSetid
	TypeSyscallSetresid
	TypeSyscallPrlimit64
	TypeSyscallPipe
	TypeSyscallFcntl
	TypeSyscallDup
	TypeSyscallSignalfd
	TypeSyscallChroot
	TypeSyscallEventfd
	TypeSyscallClone
	TypeSyscallBind
	TypeSyscallAccept
	TypeSyscallTimerfdCreate
	TypeSyscallTimerfdSettime
	TypeSyscallTimerfdGettime
	TypeSyscallFork
	TypeSyscallInotifyInit
	TypeSyscallInotifyAddWatch
	TypeSyscallInotifyRmWatch
	TypeSyscallSocketpair
	TypeSyscallWrite
	TypeSentryMmap
	TypeSyscallMmap
	TypeSyscallListen
	TypeSyscallPtrace

	// Types is the number of types, TypeUnknown included.
	Types = int(TypeSyscallPtrace) + 1
)

// kinds says of each type its name and what makes an empty message of it.
var kinds = [Types]struct {
	name  string
	empty func() Message
}{
	TypeUnknown:                {"unknown", nil},
	TypeContainerStart:         {"container_start", func() Message { return &ContainerStart{} }},
	TypeSentryClone:            {"sentry_clone", func() Message { return &SentryClone{} }},
	TypeSentryExec:             {"sentry_exec", func() Message { return &SentryExec{} }},
	TypeSentryExitNotifyParent: {"sentry_exit_notify_parent", func() Message { return &SentryExitNotifyParent{} }},
	TypeSentryTaskExit:         {"sentry_task_exit", func() Message { return &SentryTaskExit{} }},
	TypeSyscallRaw:             {"syscall_raw", func() Message { return &Raw{} }},
	TypeSyscallOpen:            {"syscall_open", func() Message { return &Open{} }},
	TypeSyscallClose:           {"syscall_close", func() Message { return &Close{} }},
	TypeSyscallRead:            {"syscall_read", func() Message { return &Read{} }},
	TypeSyscallConnect:         {"syscall_connect", func() Message { return &Connect{} }},
	TypeSyscallExecve:          {"syscall_execve", func() Message { return &Execve{} }},
	TypeSyscallSocket:          {"syscall_socket", func() Message { return &Socket{} }},
	TypeSyscallChdir:           {"syscall_chdir", func() Message { return &Chdir{} }},
	TypeSyscallSetid:           {"syscall_setid", func() Message { return &Setid{} }},
	TypeSyscallSetresid:        {"syscall_setresid", func() Message { return &Setresid{} }},
	TypeSyscallPrlimit64:       {"syscall_prlimit64", func() Message { return &Prlimit{} }},
	TypeSyscallPipe:            {"syscall_pipe", func() Message { return &Pipe{} }},
	TypeSyscallFcntl:           {"syscall_fcntl", func() Message { return &Fcntl{} }},
	TypeSyscallDup:             {"syscall_dup", func() Message { return &Dup{} }},
	TypeSyscallSignalfd:        {"syscall_signalfd", func() Message { return &Signalfd{} }},
	TypeSyscallChroot:          {"syscall_chroot", func() Message { return &Chroot{} }},
	TypeSyscallEventfd:         {"syscall_eventfd", func() Message { return &Eventfd{} }},
	TypeSyscallClone:           {"syscall_clone", func() Message { return &Clone{} }},
	TypeSyscallBind:            {"syscall_bind", func() Message { return &Bind{} }},
	TypeSyscallAccept:          {"syscall_accept", func() Message { return &Accept{} }},
	TypeSyscallTimerfdCreate:   {"syscall_timerfd_create", func() Message { return &TimerfdCreate{} }},
	TypeSyscallTimerfdSettime:  {"syscall_timerfd_settime", func() Message { return &TimerfdSetTime{} }},
	TypeSyscallTimerfdGettime:  {"syscall_timerfd_gettime", func() Message { return &TimerfdGetTime{} }},
	TypeSyscallFork:            {"syscall_fork", func() Message { return &Fork{} }},
	TypeSyscallInotifyInit:     {"syscall_inotify_init", func() Message { return &InotifyInit{} }},
	TypeSyscallInotifyAddWatch: {"syscall_inotify_add_watch", func() Message { return &InotifyAddWatch{} }},
	TypeSyscallInotifyRmWatch:  {"syscall_inotify_rm_watch", func() Message { return &InotifyRmWatch{} }},
	TypeSyscallSocketpair:      {"syscall_socketpair", func() Message { return &SocketPair{} }},
	TypeSyscallWrite:           {"syscall_write", func() Message { return &Write{} }},
	TypeSentryMmap:             {"sentry_mmap", func() Message { return &SentryMmap{} }},
	TypeSyscallMmap:            {"syscall_mmap", func() Message { return &Mmap{} }},
	TypeSyscallListen:          {"syscall_listen", func() Message { return &Listen{} }},
	TypeSyscallPtrace:          {"syscall_ptrace", func() Message { return &Ptrace{} }},
}

// Known reports whether messages of the type can be decoded.
func (t Type) Known() bool { return int(t) < Types && t != TypeUnknown }

// String returns the type's name in lower case, "unknown" for one that is not known.
func (t Type) String() string {
	if !t.Known() {
		return kinds[TypeUnknown].name
	}
	return kinds[t].name
}

// New returns an empty message of a known type.
func (t Type) New() Message { return kinds[t].empty() }
