package bpf

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// actSpin uses a processor until it is killed, in the cgroup in its argument if any.
func actSpin() error {
	if group := os.Getenv("SONDE_TEST_ARG"); group != "" {
		if err := os.WriteFile(group, []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
			return err
		}
	}
	for spun := uint64(1); spun != 0; spun++ { // centuries
	}
	return nil
}

// seenSpaces notes the address spaces that a recording tells of.
type seenSpaces struct {
	mu  sync.Mutex
	all map[AddressSpace]event.Process
}

func (s *seenSpaces) found(id AddressSpace, p event.Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[AddressSpace]event.Process{}
	}
	s.all[id] = p
}

// record records for half a second and checks the ledger: what was recorded is what
// the samples add up to.
func record(t *testing.T, k *Kernel, o StackOptions) (*StackProfile, *seenSpaces) {
	t.Helper()
	var seen seenSpaces
	p, err := k.RecordStacks(t.Context(), 500*time.Millisecond, o, seen.found)
	if errors.Is(err, errors.ErrUnsupported) {
		testenv.Skip(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	var sum uint64
	for _, s := range p.Samples {
		sum += s.Count
		if s.Space != (AddressSpace{}) && seen.all[s.Space].PID != s.Space.PID && p.SpacesLost == 0 {
			t.Errorf("samples of %v, of which nobody was told: %v", s.Space, seen.all[s.Space])
		}
	}
	if sum != p.Recorded {
		t.Errorf("samples add up to %d, %d were recorded", sum, p.Recorded)
	}
	return p, &seen
}

// eventually repeats a recording until it holds what it should: on a busy machine a
// process may hardly run for half a second.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// spinner starts a process that does nothing but spin.
func spinner(t *testing.T, cgroup string) uint32 {
	t.Helper()
	return uint32(startAct(t, "spin", cgroup).Process.Pid)
}

// What spins is seen, by name and with its stack, and a filter leaves nothing but it.
func TestStacksOfWhatRuns(t *testing.T) {
	k := newKernel(t, Options{RingBytes: 1 << 20})
	pid := spinner(t, "")
	eventually(t, "20 samples of the spinner", func() bool {
		p, seen := record(t, k, StackOptions{PID: pid})
		named := false
		for _, s := range p.Samples {
			if s.Space.PID != pid {
				t.Errorf("a sample of process %d", s.Space.PID)
			}
			if len(s.User) == 0 && len(s.Kernel) == 0 {
				t.Error("a sample without a frame")
			}
			name := seen.all[s.Space].Comm
			named = named || strings.HasPrefix(string(name[:]), "exe\x00") // it was started as /proc/self/exe
		}
		return p.Recorded >= 20 && named
	})
}

// A cgroup includes those below it, and nobody else.
func TestStacksOfACgroup(t *testing.T) {
	k := newKernel(t, Options{RingBytes: 1 << 20})
	root := testenv.CgroupV2()
	if root == "" {
		testenv.Skip(t, ErrNoCgroup2.Error())
	}
	group := filepath.Join(root, "sonde-test-"+strconv.Itoa(os.Getpid()))
	inner := filepath.Join(group, "inner")
	must(t, "make cgroups", os.MkdirAll(inner, 0o755))
	t.Cleanup(func() {
		eventually(t, "remove "+inner, func() bool { return os.Remove(inner) == nil }) // once its process has gone
		must(t, "remove cgroup", os.Remove(group))
	})
	var info unix.Stat_t
	must(t, "stat cgroup", unix.Stat(group, &info))
	spinner(t, "") // outside
	pid := spinner(t, filepath.Join(inner, "cgroup.procs"))
	o := StackOptions{CgroupID: info.Ino, CgroupLevel: 1}
	eventually(t, "10 samples of the cgroup", func() bool {
		p, _ := record(t, k, o)
		for _, s := range p.Samples {
			if s.Space.PID != pid {
				t.Errorf("a sample of process %d, which is not in the cgroup", s.Space.PID)
			}
		}
		return p.Recorded >= 10
	})
}

// What does not fit is counted.
func TestStacksThatDoNotFit(t *testing.T) {
	if os.Getenv("SONDE_TEST_VM") != "" {
		t.Skip("an emulated clock looks at too few places: on 6.1 no two within 30 s")
	}
	k := newKernel(t, Options{RingBytes: 1 << 20})
	startAct(t, "storm", "1m") // stacks of many kinds; it is killed at the end
	for _, test := range []struct {
		stacks, samples uint32
		lost            func(*StackProfile) uint64
	}{
		{1, 1024, func(p *StackProfile) uint64 { return p.StacksFull }},
		{1024, 1, func(p *StackProfile) uint64 { return p.SamplesFull }},
	} {
		eventually(t, "a loss", func() bool {
			p, _ := record(t, k, StackOptions{Hz: MaxHz, maxStacks: test.stacks, maxSamples: test.samples})
			if len(p.Samples) > int(test.samples) {
				t.Errorf("%d samples in room for %d", len(p.Samples), test.samples)
			}
			if p.Taken != p.Recorded+p.Idle+p.Filtered+p.Lost() {
				t.Errorf("the ledger does not balance: %+v", p)
			}
			return test.lost(p) > 0
		})
	}
}

// One recording at a time, which ends with its context and leaves nothing loaded.
func TestOneRecordingAtATime(t *testing.T) {
	var changes atomic.Int32
	k := newKernel(t, Options{RingBytes: 1 << 20, Changed: func() { changes.Add(1) }})
	loaded := func() int {
		maps, err := k.Maps()
		must(t, "describe maps", err)
		return len(maps)
	}
	before, told := loaded(), changes.Load()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := k.RecordStacks(ctx, time.Hour, StackOptions{Kind: SlowCalls, Over: time.Hour}, func(AddressSpace, event.Process) {})
		ended <- err
	}()
	eventually(t, "the maps of a recording", func() bool { return loaded() > before })
	if memory := memoryOf(t, k, "profile_"); memory < MaxStacks*1016 || memory > StackMemory {
		t.Errorf("the maps take %d bytes, want what was said, %d at most", memory, StackMemory)
	}
	if _, err := k.RecordStacks(t.Context(), time.Millisecond, StackOptions{}, nil); !errors.Is(err, ErrProfiling) {
		t.Errorf("a second one: %v, want ErrProfiling", err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if after := loaded(); after != before {
		t.Errorf("%d maps before, %d after", before, after)
	}
	if n := changes.Load() - told; n != 2 {
		t.Errorf("told %d times that maps have changed, want 2: they came and went", n)
	}
	if _, err := k.RecordStacks(t.Context(), time.Millisecond, StackOptions{Kind: SlowCalls, Syscall: "nothing"}, nil); !errors.Is(err, ErrNoSyscall) {
		t.Errorf("no such call: %v, want ErrNoSyscall", err)
	}
}

// memoryOf adds up what the maps of a probe take.
func memoryOf(t *testing.T, k *Kernel, probe string) (bytes uint64) {
	t.Helper()
	maps, err := k.Maps()
	must(t, "describe maps", err)
	for _, m := range maps {
		if strings.HasPrefix(m.Map, probe) {
			bytes += m.MemoryBytes
		}
	}
	return bytes
}

// Every drop has its reason and the kernel's stack.
func TestStacksOfDrops(t *testing.T) {
	const n = 500
	eachKind(t, func(t *testing.T, k *Kernel) {
		privateNet(t)
		to := netip.MustParseAddr("127.0.0.1")
		fd := socket(t, unix.AF_INET, unix.SOCK_DGRAM)
		defer unix.Close(fd)
		ctx, cancel := context.WithCancel(t.Context())
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for ctx.Err() == nil {
				_ = unix.Sendto(fd, []byte("nobody wants me"), 0, sockaddr(netip.AddrPortFrom(to, 9), false))
			}
		}()
		defer func() { cancel(); <-sent }()
		eventually(t, "500 drops", func() bool {
			p, _ := record(t, k, StackOptions{Kind: PacketDrops})
			var dropped uint64
			for _, s := range p.Samples {
				if s.What == "no_socket" && len(s.Kernel) > 2 && len(s.User) == 0 {
					dropped += s.Count
				}
			}
			return dropped >= n
		})
	})
}

// Calls that are slow are in it with their time, quick ones are not.
func TestStacksOfSlowCalls(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for ctx.Err() == nil {
				_, _ = unix.Ppoll(nil, &unix.Timespec{Nsec: 30e6}, nil)
				_, _ = unix.Ppoll(nil, &unix.Timespec{Nsec: 1000}, nil)
			}
		}()
		defer func() { cancel(); <-ended }()
		o := StackOptions{Kind: SlowCalls, Over: 20 * time.Millisecond, Syscall: "ppoll", PID: uint32(os.Getpid())}
		eventually(t, "5 slow calls and 5 quick ones", func() bool {
			p, _ := record(t, k, o)
			for _, s := range p.Samples {
				if s.What != "ppoll" || len(s.User) == 0 || s.NS < s.Count*20e6 {
					t.Errorf("sample %+v", s)
				}
			}
			return p.Recorded >= 5 && p.Filtered >= 5
		})
	})
}
