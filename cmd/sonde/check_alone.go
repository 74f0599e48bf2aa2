package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/config"
	"github.com/sonde-ebpf/sonde/internal/container"
	"github.com/sonde-ebpf/sonde/internal/stream"
	"github.com/sonde-ebpf/sonde/internal/unixsocket"
)

// aloneChecks are asked by `sonde check` only: a start finds out by doing.
var aloneChecks = []check{
	{"bpf", (*preflight).bpf},
	{"instance", (*preflight).instance},
	{"listen", (*preflight).listen},
	{"runtimes", (*preflight).runtimes},
	{"events", (*preflight).events},
}

// bpf tries what lockdown, seccomp and security modules may forbid.
func (p *preflight) bpf() finding {
	if err := bpf.Permitted(); err != nil {
		return failedBy(p.explain(err, exitPolicy))
	}
	return found("maps and programs are accepted")
}

// instance takes the lock and gives it back.
func (p *preflight) instance() finding {
	if _, err := os.Stat(lockPath(p.settings.runDir, p.settings.pinDir)); err != nil {
		return found("no other instance on %s", p.settings.pinDir)
	}
	lock, err := lockInstance(p.settings.runDir, p.settings.pinDir)
	if err != nil {
		return failedBy(err)
	}
	if err := lock.Release(); err != nil {
		return warn("", "release lock: %v", err)
	}
	return found("no other instance on %s", p.settings.pinDir)
}

// listen opens every TCP address and closes it again, and knocks at every socket.
func (p *preflight) listen() finding {
	all := slices.Clone(p.settings.listen)
	named := func(flag string) bool {
		origin, _ := p.settings.setting(flag).origin()
		return origin != config.OriginDefault
	}
	if p.settings.introspect && named("introspect.listen-address") {
		all = append(all, p.settings.introspectListen...)
	}
	if named("grpc.listen-address") && p.settings.grpcListen != "" {
		all = append(all, p.settings.grpcListen)
	}
	if p.settings.gvisorEndpoint != "" {
		all = append(all, unixsocket.Scheme+p.settings.gvisorEndpoint)
	}
	for _, address := range all {
		if err := tryListen(address); err != nil {
			return failedBy(listenError(fmt.Errorf("listen on %s: %w", address, unwrapListen(err))))
		}
	}
	return found("%s", strings.Join(all, " "))
}

// tryListen tells whether an address could be listened on. A socket that a killed
// process has left is replaced at the start, so that only a listener is in the way.
func tryListen(address string) error {
	if path, is := strings.CutPrefix(address, unixsocket.Scheme); is {
		c, err := net.Dial("unix", path)
		if err != nil {
			return nil //nolint:nilerr // nobody listens: it is free
		}
		return errors.Join(syscall.EADDRINUSE, c.Close())
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return l.Close()
}

// runtimes asks the container runtimes whether they answer. One that is not used
// here is no finding.
func (p *preflight) runtimes() finding {
	all := container.CheckRuntimes(context.Background(), container.Options{
		Proc: p.proc, Rootfs: p.root, CgroupRoot: p.settings.cgroupFS, Runtimes: p.config.Containers,
	})
	var answer []string
	for _, r := range all {
		switch {
		case r.Up:
			answer = append(answer, fmt.Sprintf("%s %s (%s)", r.Runtime, r.Version, strings.Join(r.Sockets, ", ")))
		case r.Reason != container.Unused:
			return warn(r.Hint, "%s does not answer: %s", r.Runtime, r.Fault)
		}
	}
	if len(answer) == 0 {
		return found("none is used here")
	}
	return found("%s", strings.Join(answer, "; "))
}

// events looks at the directory of sinks' files, if a session has such a sink.
func (p *preflight) events() finding {
	if !p.writesFiles() {
		return found("no session writes files")
	}
	free, dir, err := freeSpace(p.settings.eventsDir)
	switch {
	case err != nil:
		return warn("make it writable or choose another --events.dir", "%v", err)
	case free < enoughSpace:
		return warn("free some space", "%s has %s left", dir, mebibytes(free))
	}
	return found("%s, %s free", p.settings.eventsDir, mebibytes(free))
}

// writesFiles reports whether a session of the configuration, which has been
// checked, has a sink that writes files.
func (p *preflight) writesFiles() bool {
	texts, _ := listedSessions(p.config.Runtime.Sessions)
	for _, text := range texts {
		s, _, err := stream.ParseSession([]byte(text))
		if err == nil && slices.ContainsFunc(s.Sinks, func(k stream.SinkConfig) bool { return k.Name == "jsonl" }) {
			return true
		}
	}
	return false
}

// freeSpace tells how many bytes a directory has left, or the nearest one above it
// that exists, which it names.
func freeSpace(path string) (free uint64, dir string, err error) {
	dir = nearest(path)
	var fs unix.Statfs_t
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return 0, dir, fmt.Errorf("write to %s: %w", dir, err)
	}
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, dir, fmt.Errorf("statfs %s: %w", dir, err)
	}
	return fs.Bavail * uint64(fs.Bsize), dir, nil
}

// failedBy turns an exitError into a finding.
func failedBy(err error) finding {
	f := fail(codeOf(err), "", "%v", err)
	if coded, ok := err.(*exitError); ok { //nolint:errorlint // the outermost one has the words
		f.Detail, f.Remedy = coded.err.Error(), coded.hint
	}
	return f
}
