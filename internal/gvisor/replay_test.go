package gvisor

import (
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// recording reads the datagrams of a file in the form that gVisor's replay tool has:
// a signature, then pieces with their length before them, the first of them
// {"version":1}.
func recording(tb testing.TB, path string) (datagrams []string) {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	rest, ok := strings.CutPrefix(string(b), "tracereplay file")
	if !ok {
		tb.Fatal("no recording")
	}
	for rest != "" {
		n := binary.LittleEndian.Uint64([]byte(rest))
		datagrams = append(datagrams, rest[8:8+n])
		rest = rest[8+n:]
	}
	if datagrams[0] != `{"version":1}` {
		tb.Fatalf("a recording of version %s", datagrams[0])
	}
	return datagrams[1:]
}

// TestReplay: the life of a container, as gVisor's example of its documentation has
// it and with what is hard about the protocol. The bytes were made by protobuf's
// own encoder from gVisor's definitions.
func TestReplay(t *testing.T) {
	r := start(t)
	s := connect(t, r)
	all := recording(t, "testdata/sandbox.tracereplay")
	for _, datagram := range all {
		s.send(datagram)
	}
	s.Close()
	eventually(t, "all was received", func() bool {
		stats := r.Stats()
		return stats.Connections == 0 && total(stats.Messages)+total(stats.Malformed) == uint64(len(all))
	})
	const container = "gvisor %s container=dee0da1eafc6b15abffeed1abc6ca968c6d816252ae334435de6f3871fb05e61 "
	of := func(point, rest string) string { return strings.Replace(container, "%s", point, 1) + rest }
	want := []string{
		of("process/exec", `pid=1 tid=1 ppid=0 uid=0 comm=bash path=bash exe= args="bash\x00-c\x00while true; do echo looping; sleep 5; done\x00" cwd=/ euid=0`),
		of("process/fork", "pid=1 tid=1 ppid=0 uid=0 comm=bash child=110"),
		of("process/exec", `pid=110 tid=110 ppid=1 uid=1000 comm=bash path=/bin/sleep exe=/bin/sleep args="sleep\x005\x00" cwd=/srv euid=1000`),
		of("network/connect", "pid=111 tid=112 ppid=1 uid=1000 comm=curl inbound=false protocol=0 local=[0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0]:0 remote=[192 0 2 1 0 0 0 0 0 0 0 0 0 0 0 0]:443"),
		of("network/listen", "pid=111 tid=112 ppid=1 uid=1000 comm=curl inbound=true protocol=6 local=[0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0]:8080 remote=[0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0]:0"),
		of("network/accept", "pid=111 tid=112 ppid=1 uid=1000 comm=curl inbound=true protocol=6 local=[0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0]:0 remote=[192 0 2 3 0 0 0 0 0 0 0 0 0 0 0 0]:40000"),
		`gvisor process/exec container= pid=0 tid=0 ppid=0 uid=0 comm= path= exe= args="" cwd= euid=0`, // an empty one, in a longer header
		of("process/exit", "pid=110 tid=110 ppid=1 uid=1000 comm=sleep code=1 signal=0"),
		of("process/exit", "pid=1 tid=1 ppid=0 uid=0 comm=bash code=0 signal=9"),
	}
	if diff := cmp.Diff(want, r.published()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if stats := r.Stats(); stats.Dropped != 3 || stats.Messages["unknown"] != 1 || stats.Malformed["payload"] != 1 || total(stats.Malformed) != 1 {
		t.Errorf("counts %+v", stats)
	}
}
