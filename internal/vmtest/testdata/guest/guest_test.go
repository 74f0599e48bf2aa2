// Package guest is tested only inside a guest: it proves that the machine which
// init.sh makes is the one that the eBPF tests count on.
package guest

import (
	"net"
	"os"
	"strings"
	"testing"
)

// TestMain refuses to run on a host, where the mounts are somebody else's.
func TestMain(m *testing.M) {
	if os.Getenv("SONDE_TEST_VM") != "1" {
		os.Stderr.WriteString("guest: these tests run in a guest of internal/vmtest only\n")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func TestMounts(t *testing.T) {
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"\nproc /proc proc ",
		"\nsysfs /sys sysfs ",
		"\ndev /dev devtmpfs ",
		"\ntmpfs /tmp tmpfs ",
		"\ntmpfs /run tmpfs ",
		"\ntracefs /sys/kernel/tracing tracefs ",
		"\ndebugfs /sys/kernel/debug debugfs ",
		" /sys/fs/bpf bpf ", // 5.10 does not keep the source's name
		"\ncgroup2 /sys/fs/cgroup cgroup2 ",
	} {
		if !strings.Contains("\n"+string(mounts), want) {
			t.Errorf("not mounted: %q in\n%s", want, mounts)
		}
	}
}

func TestBTF(t *testing.T) {
	btf, err := os.ReadFile("/sys/kernel/btf/vmlinux")
	if err != nil {
		t.Fatal(err)
	}
	if len(btf) < 1<<20 || btf[0] != 0x9f || btf[1] != 0xeb {
		t.Errorf("BTF of the kernel: %d bytes beginning % x", len(btf), btf[:min(len(btf), 2)])
	}
}

func TestTracepoints(t *testing.T) {
	for _, event := range []string{"raw_syscalls/sys_enter", "sched/sched_process_exec", "sock/inet_sock_set_state", "oom/mark_victim"} {
		if _, err := os.Stat("/sys/kernel/tracing/events/" + event + "/id"); err != nil {
			t.Error(err)
		}
	}
}

func TestControllers(t *testing.T) {
	controllers, err := os.ReadFile("/sys/fs/cgroup/cgroup.subtree_control")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"memory", "pids", "cpu"} {
		if !strings.Contains(" "+strings.TrimSpace(string(controllers))+" ", " "+want+" ") {
			t.Errorf("controller %s is off: %q", want, controllers)
		}
	}
}

func TestLoopback(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
}

// TestTestdata: what lies in a package's testdata directory is there in the guest.
func TestTestdata(t *testing.T) {
	content, err := os.ReadFile("testdata/nested/file")
	if err != nil || strings.TrimSpace(string(content)) != "carried along" {
		t.Errorf("testdata/nested/file = %q, %v", content, err)
	}
}
