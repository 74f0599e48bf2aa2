// Package crosscheck holds the recorded messages of package wire to the types
// that gVisor generates from its own definitions. What this release of gVisor
// does not have yet, it carries along as unknown.
package crosscheck

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	pb "gvisor.dev/gvisor/pkg/sentry/seccheck/points/points_go_proto"
)

// messages are gVisor's, by the type that the header states.
var messages = map[pb.MessageType]proto.Message{
	pb.MessageType_MESSAGE_CONTAINER_START:           &pb.Start{},
	pb.MessageType_MESSAGE_SENTRY_CLONE:              &pb.CloneInfo{},
	pb.MessageType_MESSAGE_SENTRY_EXEC:               &pb.ExecveInfo{},
	pb.MessageType_MESSAGE_SENTRY_EXIT_NOTIFY_PARENT: &pb.ExitNotifyParentInfo{},
	pb.MessageType_MESSAGE_SENTRY_TASK_EXIT:          &pb.TaskExit{},
	pb.MessageType_MESSAGE_SYSCALL_RAW:               &pb.Syscall{},
	pb.MessageType_MESSAGE_SYSCALL_OPEN:              &pb.Open{},
	pb.MessageType_MESSAGE_SYSCALL_CLOSE:             &pb.Close{},
	pb.MessageType_MESSAGE_SYSCALL_READ:              &pb.Read{},
	pb.MessageType_MESSAGE_SYSCALL_CONNECT:           &pb.Connect{},
	pb.MessageType_MESSAGE_SYSCALL_EXECVE:            &pb.Execve{},
	pb.MessageType_MESSAGE_SYSCALL_SOCKET:            &pb.Socket{},
	pb.MessageType_MESSAGE_SYSCALL_CHDIR:             &pb.Chdir{},
	pb.MessageType_MESSAGE_SYSCALL_SETID:             &pb.Setid{},
	pb.MessageType_MESSAGE_SYSCALL_SETRESID:          &pb.Setresid{},
	pb.MessageType_MESSAGE_SYSCALL_PRLIMIT64:         &pb.Prlimit{},
	pb.MessageType_MESSAGE_SYSCALL_PIPE:              &pb.Pipe{},
	pb.MessageType_MESSAGE_SYSCALL_FCNTL:             &pb.Fcntl{},
	pb.MessageType_MESSAGE_SYSCALL_DUP:               &pb.Dup{},
	pb.MessageType_MESSAGE_SYSCALL_SIGNALFD:          &pb.Signalfd{},
	pb.MessageType_MESSAGE_SYSCALL_CHROOT:            &pb.Chroot{},
	pb.MessageType_MESSAGE_SYSCALL_EVENTFD:           &pb.Eventfd{},
	pb.MessageType_MESSAGE_SYSCALL_CLONE:             &pb.Clone{},
	pb.MessageType_MESSAGE_SYSCALL_BIND:              &pb.Bind{},
	pb.MessageType_MESSAGE_SYSCALL_ACCEPT:            &pb.Accept{},
	pb.MessageType_MESSAGE_SYSCALL_TIMERFD_CREATE:    &pb.TimerfdCreate{},
	pb.MessageType_MESSAGE_SYSCALL_TIMERFD_SETTIME:   &pb.TimerfdSetTime{},
	pb.MessageType_MESSAGE_SYSCALL_TIMERFD_GETTIME:   &pb.TimerfdGetTime{},
	pb.MessageType_MESSAGE_SYSCALL_FORK:              &pb.Fork{},
	pb.MessageType_MESSAGE_SYSCALL_INOTIFY_INIT:      &pb.InotifyInit{},
	pb.MessageType_MESSAGE_SYSCALL_INOTIFY_ADD_WATCH: &pb.InotifyAddWatch{},
	pb.MessageType_MESSAGE_SYSCALL_INOTIFY_RM_WATCH:  &pb.InotifyRmWatch{},
	pb.MessageType_MESSAGE_SYSCALL_SOCKETPAIR:        &pb.SocketPair{},
	pb.MessageType_MESSAGE_SYSCALL_WRITE:             &pb.Write{},
}

// later are messages and fields that came into the protocol after this release.
var (
	laterMessages = []string{"sentry_mmap", "syscall_mmap", "syscall_listen", "syscall_ptrace"}
	laterFields   = map[string][]string{
		"": {"contextdata.parentthreadgroupid", "contextdata.isexecsession"},
		"sentry_exec": {"binaryoverlayfsupper", "binaryino", "binaryctime", "stdin", "stdout", "stderr", "binaryoverlayfslower",
			"binarysha1", "execfn", "binarysize", "binarynlink", "binaryinmemfd", "pipeinputproc", "pipeoutputproc"},
	}
)

// TestMessages: gVisor's types read the recorded messages as we do, and write the
// same bytes.
func TestMessages(t *testing.T) {
	text, err := os.ReadFile("../testdata/messages.txt")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[pb.MessageType]bool{}
	for block := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n\n") {
		lines := strings.Split(block, "\n")
		kind, _, _ := strings.Cut(lines[0], "/")
		datagram, err := hex.DecodeString(strings.ReplaceAll(lines[len(lines)-1], " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		number := pb.MessageType(binary.LittleEndian.Uint16(datagram[2:]))
		m := messages[number]
		if m == nil {
			if !slices.Contains(laterMessages, kind) {
				t.Errorf("%s: gVisor has no message type %d", lines[0], number)
			}
			continue
		}
		seen[number] = true
		t.Run(lines[0], func(t *testing.T) {
			if name := strings.ToLower(strings.TrimPrefix(number.String(), "MESSAGE_")); name != kind {
				t.Errorf("gVisor calls it %s", name)
			}
			proto.Reset(m)
			if err := proto.Unmarshal(datagram[8:], m); err != nil {
				t.Fatal(err)
			}
			want := known(kind, lines[1:len(lines)-1])
			if got := values(nil, "", m.ProtoReflect()); !slices.Equal(got, want) {
				t.Errorf("gVisor reads %q, we %q", got, want)
			}
			again, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
			if err != nil || !bytes.Equal(again, datagram[8:]) {
				t.Errorf("gVisor writes % x, %v; we % x", again, err, datagram[8:])
			}
		})
	}
	if len(seen) != len(messages) {
		t.Errorf("%d types of messages recorded, gVisor has %d", len(seen), len(messages))
	}
}

// known leaves out what came later.
func known(kind string, lines []string) (all []string) {
	for _, line := range lines {
		line = strings.TrimSpace(line)
		name, _, _ := strings.Cut(line, "=")
		top, _, _ := strings.Cut(name, ".")
		if !slices.Contains(laterFields[""], name) && !slices.Contains(laterFields[kind], top) {
			all = append(all, line)
		}
	}
	return all
}

// values lists the fields that are present, in the order of their numbers.
func values(all []string, prefix string, m protoreflect.Message) []string {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !m.Has(f) {
			continue
		}
		name, v := prefix+strings.ReplaceAll(string(f.Name()), "_", ""), m.Get(f)
		switch {
		case f.IsList():
			for i := range v.List().Len() {
				all = append(all, name+"="+strconv.Quote(v.List().Get(i).String()))
			}
		case f.Kind() == protoreflect.MessageKind:
			all = values(append(all, name), name+".", v.Message())
		case f.Kind() == protoreflect.StringKind:
			all = append(all, name+"="+strconv.Quote(v.String()))
		case f.Kind() == protoreflect.BytesKind:
			all = append(all, name+"="+strconv.Quote(string(v.Bytes())))
		default:
			all = append(all, fmt.Sprintf("%s=%v", name, v.Interface()))
		}
	}
	return all
}
