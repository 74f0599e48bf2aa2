package bpf

import (
	"fmt"
	"os"
	"testing"

	"github.com/cilium/ebpf/btf"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// acts are what the test binary can do when it is started again as a child: the
// guest kernels hold nothing but this binary, so it brings its own workloads.
// The key is the value of SONDE_TEST_ACT.
var acts = map[string]func() error{
	"accept":      actAccept,
	"acts":        actActs,
	"calls":       actCalls,
	"descriptors": actDescriptors,
	"eat":         actEat,
	"end":         actEnd,
	"exit":        actExit,
	"nest":        actNest,
	"opens":       actOpens,
	"sensor":      actSensor,
	"setns":       actSetns,
	"sleep":       actSleep,
	"spin":        actSpin,
	"storm":       actStorm,
	"threads":     actThreads,
	"udpsend":     actSendUDP,
}

func TestMain(m *testing.M) {
	syscallActs()
	if act := os.Getenv("SONDE_TEST_ACT"); act != "" {
		do, ok := acts[act]
		if !ok {
			fmt.Fprintln(os.Stderr, "unknown act", act)
			os.Exit(3)
		}
		if err := do(); err != nil {
			fmt.Fprintln(os.Stderr, act, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// kernelTypes is the kernel's BTF, decoded once for all tests.
var kernelTypes = btf.NewCache()

// newKernel loads the kernel object for a test.
func newKernel(tb testing.TB, opts Options) *Kernel {
	tb.Helper()
	testenv.Root(tb)
	opts.cache = kernelTypes
	k, err := Load(opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(k.Close)
	return k
}

// eachKind runs a test once per attach kind. In short mode, for slow machines,
// only the preferred one: TestProbesOfThisKernel attaches both everywhere.
func eachKind(t *testing.T, f func(t *testing.T, k *Kernel)) {
	eachKindWith(t, Options{RingBytes: 1 << 20}, f)
}

func eachKindWith(t *testing.T, opts Options, f func(t *testing.T, k *Kernel)) {
	for _, kind := range attachKinds {
		if testing.Short() && kind != AttachTpBTF {
			continue
		}
		opts.Attach = kind
		t.Run(kind, func(t *testing.T) { f(t, newKernel(t, opts)) })
	}
}
