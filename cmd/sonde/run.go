package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sonde-ebpf/sonde/exporter"
	"github.com/sonde-ebpf/sonde/internal/config"
	"github.com/sonde-ebpf/sonde/internal/gvisor"
	"github.com/sonde-ebpf/sonde/internal/logging"
	"github.com/sonde-ebpf/sonde/internal/outbound"
	"github.com/sonde-ebpf/sonde/internal/tetragon"
	"github.com/sonde-ebpf/sonde/introspect"
)

// agent is the running sensor: the parts that run wires together.
type agent struct {
	settings *settings
	config   *config.Config
	file     config.FileVersion // that was read last; belongs to reload once it runs
	machine  machine
	steps    *Steps
	started  time.Time

	levels     *logging.Levels
	log        *slog.Logger
	supervisor supervisor
	vitals     *vitals
	store      *config.Store

	lock       *instanceLock
	exporter   *exporter.Exporter
	introspect *introspect.Server // nil if it is off
	pusher     *exporter.Pusher   // nil without --push.url
	gvisor     *gvisor.Receiver   // nil without --gvisor.endpoint
	tetragon   *tetragon.Server   // nil without --grpc.listen-address
	probes     atomic.Pointer[probes]

	memoryLimit uint64 // bytes, 0 for none
}

// runAgent is the verb run: start, serve until told to stop, stop in order. The
// summary of the start is always printed, and the reason of a failure once.
func runAgent(ctx context.Context, s *settings, stderr io.Writer) int {
	a := &agent{settings: s, steps: newSteps(), started: time.Now(), vitals: newVitals()}
	err := a.steps.Do("config", a.configure(stderr))
	if err != nil {
		err = errors.Join(err, a.configureLog(stderr, logging.Spec{}), a.printSteps(stderr))
	} else {
		err = a.live(ctx, stderr)
		a.endBlackBox(codeOf(err))
		err = errors.Join(err, a.release())
	}
	a.supervisor.ended(err)
	if err == nil {
		a.log.Info("stopped")
		return int(exitOK)
	}
	if s.logFormat == "json" { // every line stays JSON
		a.log.Error("ended by an error", "err", err, "exit_code", int(codeOf(err)))
		return int(codeOf(err))
	}
	return report(stderr, err)
}

// live is the part of a run that signals reach.
func (a *agent) live(ctx context.Context, stderr io.Writer) error {
	ctx, signals := a.watchSignals(ctx)
	defer signals.stop()
	err := a.start(ctx)
	if printErr := a.printSteps(stderr); err == nil {
		err = printErr
	}
	if errors.Is(err, context.Canceled) { // by a signal: a stop like any other
		return nil
	}
	if err != nil {
		return err
	}
	return a.serve(ctx, signals)
}

// configure reads flags, environment and file, and makes the logger from them.
func (a *agent) configure(stderr io.Writer) func() (string, error) {
	return func() (detail string, err error) {
		if a.config, err = a.settings.load(); err != nil {
			return "", err
		}
		if a.settings.node == "" {
			a.settings.node, _ = os.Hostname() // a name is a convenience
		}
		spec, err := logging.ParseSpec(a.config.Runtime.Log.Level)
		if err != nil {
			return "", err
		}
		if err := a.configureLog(stderr, spec); err != nil {
			return "", err
		}
		a.file = a.config.File()
		a.store = config.NewStore(a.config, a.settings.configFile, config.Applier{Name: "log level", Apply: a.applyLevel})
		return a.settings.configFile, nil
	}
}

// configureLog makes the logger; where the configuration is not valid it only
// has to carry the last words.
func (a *agent) configureLog(stderr io.Writer, spec logging.Spec) (err error) {
	a.machine = newMachine(a.settings)
	a.levels = logging.NewLevels(spec)
	format := a.settings.logFormat
	if format == "" { // it is what is not valid
		format = "logfmt"
	}
	a.log, err = logging.New(logging.Options{Writer: stderr, Format: format, Levels: a.levels, Metadata: a.metadata()})
	if err != nil {
		return err
	}
	a.supervisor = supervisor{a.log.With(logging.TargetKey, "supervisor"), a.settings.terminationFile}
	return nil
}

// start does the steps of the start, in order, and stops at the first failure.
// Preflight comes before the lock because "not root" explains why a lock cannot
// be taken, and not the other way round. What a failed start has opened is
// closed by release.
func (a *agent) start(ctx context.Context) error {
	a.log.Info("starting", "version", version, "revision", revision, slog.Group("settings", a.settings.logValues(a.config)...))
	for _, step := range []struct {
		name string
		do   func() (string, error)
	}{
		{"preflight", a.preflight},
		{"lock", a.takeLock},
		{"state", a.makeStateDir},
		{"enlist", a.enlist},
		{"memory", a.fitMemory},
		{"listen", a.listen},
		{"introspect", a.listenIntrospection},
	} {
		if err := a.steps.Do(step.name, step.do); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	p, err := startProbes(ctx, probeOptions{a.log.With(logging.TargetKey, "bpf"), a.settings, a.config, a.machine, a.memoryLimit, a.vitals}, a.steps)
	if err != nil {
		return a.machine.explain(err, exitProbes)
	}
	a.probes.Store(p)
	a.store.Follow(config.Applier{Name: "events", Apply: p.follow})
	a.store.Follow(config.Applier{Name: "state", Apply: p.model.follow})
	a.store.Follow(config.Applier{Name: "rules", Apply: p.followRules})
	if err := errors.Join(p.AddCollectors(a.exporter), a.addOwnCollectors(p)); err != nil {
		return err
	}
	if err := a.steps.Do("gvisor", a.listenGVisor); err != nil {
		return err
	}
	if err := a.steps.Do("grpc", a.listenTetragon); err != nil {
		return err
	}
	if err := a.steps.Do("privileges", a.dropPrivileges); err != nil {
		return err
	}
	return a.steps.Do("announce", a.announce)
}

func (a *agent) preflight() (string, error) {
	p := &preflight{machine: a.machine, settings: a.settings, config: a.config}
	all := p.ask(checks)
	warnings := 0
	for _, f := range all {
		if f.Status == statusWarn {
			warnings++
			a.log.Warn("preflight", "check", f.Check, "detail", f.Detail, "remedy", f.Remedy)
		}
	}
	return fmt.Sprintf("%d checks, %d warnings", len(all), warnings), firstFailure(all)
}

func (a *agent) takeLock() (detail string, err error) {
	a.lock, err = lockInstance(a.settings.runDir, a.settings.pinDir)
	return a.settings.pinDir, err
}

func (a *agent) makeStateDir() (string, error) {
	if err := os.MkdirAll(a.settings.stateDir, 0o700); err != nil {
		return "", &exitError{exitState, fmt.Errorf("create state directory: %w", err), "make it writable or choose another --state.dir"}
	}
	return a.settings.stateDir, nil
}

// listen makes the exporter and opens its addresses; nothing is served yet.
func (a *agent) listen() (string, error) {
	s := a.settings
	o := exporter.Options{
		Logger:          a.log.With(logging.TargetKey, "exporter"),
		ListenAddresses: s.listen,
		WebConfigFile:   s.webConfigFile,
		Timeout:         s.collectorTimeout,
		MaxRequests:     s.maxRequests,
		Health:          &a.vitals.Heartbeats,
		NotReady:        a.notReady,
		Status:          a.status,
	}
	if s.systemdSocket {
		var err error
		if o.Listeners, err = passedListeners(); err != nil {
			return "", &exitError{exitListen, err, "start it through a systemd socket unit with ListenStream=, or without --web.systemd-socket"}
		}
	}
	o.Gatherers = append(o.Gatherers, exporter.Runtime())
	a.exporter = exporter.New(o)
	if err := a.makePusher(); err != nil {
		return "", &exitError{code: exitConfig, err: err}
	}
	if err := a.exporter.Listen(); err != nil {
		if errnoOf(err) == 0 { // the web config file
			return "", &exitError{code: exitConfig, err: err}
		}
		return "", listenError(err)
	}
	return fmt.Sprint(a.exporter.Addresses()), nil
}

// pushDeadline is how many intervals the pusher may keep silent: one for a push with
// its retries, and as much again for the pause before it.
const pushDeadline = 3

func (a *agent) makePusher() (err error) {
	p := a.settings.push
	if p.url == "" {
		return nil
	}
	a.pusher, err = exporter.NewPusher(exporter.PushOptions{
		Logger: a.log.With(logging.TargetKey, "exporter.push"),
		URL:    p.url, Interval: p.interval, Timeout: p.timeout,
		Job: p.job, Instance: a.settings.node,
		Trust:       outbound.Trust{CAFile: p.caFile, CertFile: p.certFile, KeyFile: p.keyFile},
		Credentials: outbound.Credentials{Username: p.username, PasswordFile: p.passwordFile, BearerTokenFile: p.bearerTokenFile, HeadersFile: p.headersFile},
		Pulse:       a.vitals.Part("push", pushDeadline*p.interval),
	}, a.exporter.WriteText)
	if err != nil {
		return err
	}
	return a.exporter.Add("push", a.pusher)
}

func (a *agent) announce() (string, error) {
	err := announce(a.settings.runDir, discovery{
		PID: os.Getpid(), Version: version, Started: a.started,
		Addresses: a.addresses(),
		PinDir:    a.settings.pinDir, StateDir: a.settings.stateDir,
	})
	return discoveryPath(a.settings.runDir), err
}

// addresses lists where the agent listens, by listener; those of introspection as
// the verbs' --address takes them.
func (a *agent) addresses() map[string][]string {
	var metrics, introspection []string
	for _, address := range a.exporter.Addresses() {
		metrics = append(metrics, address.String())
	}
	if a.introspect != nil {
		introspection = a.introspect.URLs()
	}
	return map[string][]string{listenerMetrics: metrics, listenerIntrospect: introspection}
}

// serve runs every part until a signal or the failure of one, then stops them:
// detach, read what is left, push and serve it a last time, HTTP last.
func (a *agent) serve(ctx context.Context, signals *signals) error {
	probes := a.probes.Load()
	// HTTP and push outlive ctx, so that a last scrape sees the end.
	outlive, endHTTP := context.WithCancel(context.WithoutCancel(ctx))
	defer endHTTP()
	g, work := errgroup.WithContext(ctx)
	g.Go(probes.Run)
	g.Go(func() error { return a.exporter.Serve(outlive) })
	if a.introspect != nil {
		g.Go(func() error { return a.introspect.Serve(outlive, a.sources()) })
	}
	if a.pusher != nil {
		g.Go(func() error { return a.pusher.Run(outlive) })
	}
	if a.tetragon != nil {
		g.Go(func() error { return a.tetragon.Serve(work, a.tetragonSources(probes)) })
	}
	received := a.receiveSandboxes(work, g)
	g.Go(func() error { return a.reload(work, signals.hangup) })
	g.Go(func() error { a.watchRules(work); return nil })
	g.Go(func() error { return a.supervisor.watchdog(outlive, a.vitals.eventPath) })
	a.supervisor.ready(fmt.Sprintf("serving on %v", a.exporter.Addresses()))
	a.log.Info("ready", "metrics", a.metricsURL(), "took", time.Since(a.started).Round(time.Millisecond).String())

	<-work.Done()
	a.supervisor.stopping()
	a.log.Info("stopping", "timeout", a.settings.stopTimeout.String())
	deadline, done := context.WithTimeout(context.WithoutCancel(ctx), a.settings.stopTimeout)
	defer done()
	select { // first: what sandboxes have sent is for the sessions that Stop ends
	case <-received:
	case <-deadline.Done():
	}
	stopErr := probes.Stop(deadline)
	probes.logPins(a.log)
	endHTTP()
	return errors.Join(waitUntil(deadline, g.Wait), stopErr)
}

// metricsURL is where a person on this machine finds the metrics.
func (a *agent) metricsURL() string {
	scheme := "http"
	if a.settings.webConfigFile != "" {
		scheme = "https or http" // the file says, and it may change
	}
	for _, address := range a.exporter.Addresses() {
		tcp, ok := address.(*net.TCPAddr)
		switch {
		case !ok:
			continue
		case tcp.IP.IsUnspecified():
			return fmt.Sprintf("%s://localhost:%d/metrics", scheme, tcp.Port)
		default:
			return fmt.Sprintf("%s://%s/metrics", scheme, tcp)
		}
	}
	return fmt.Sprint(a.exporter.Addresses())
}

// closed forgives a listener that its server has closed already.
func closed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// waitUntil waits for wait or for the deadline, which has an exit code of its own.
func waitUntil(deadline context.Context, wait func() error) error {
	ended := make(chan error, 1)
	go func() { ended <- wait() }()
	select {
	case err := <-ended:
		return err
	case <-deadline.Done():
		return failf(exitStop, "stop: %w", deadline.Err())
	}
}

// release undoes what start has done, in reverse. It is called once, whatever
// start came to.
func (a *agent) release() error {
	var errs []error
	if a.exporter != nil {
		errs = append(errs, a.exporter.Close())
	}
	if a.introspect != nil {
		errs = append(errs, closed(a.introspect.Close()))
	}
	if a.gvisor != nil {
		errs = append(errs, closed(a.gvisor.Close()))
	}
	if a.tetragon != nil {
		errs = append(errs, a.tetragon.Close())
	}
	if p := a.probes.Load(); p != nil {
		errs = append(errs, p.Close())
	}
	if a.lock != nil {
		errs = append(errs, withdraw(a.settings.runDir, os.Getpid()), a.lock.Release())
	}
	return errors.Join(errs...)
}

func (a *agent) printSteps(stderr io.Writer) error {
	if a.settings.logFormat == "json" {
		a.steps.Log(a.log)
		return nil
	}
	return a.steps.WriteTable(stderr)
}

func (a *agent) notReady() []string {
	if p := a.probes.Load(); p != nil {
		return p.NotReady()
	}
	return []string{"starting"}
}

func (a *agent) status() exporter.Status {
	release, _ := a.machine.fs.KernelRelease()
	s := exporter.Status{Node: a.settings.node, Kernel: release, Version: version, Revision: revision, Started: a.started}
	if p := a.probes.Load(); p != nil {
		p.FillStatus(&s)
	}
	if a.settings.dashboardsURL != "" {
		s.Links = append(s.Links, exporter.Link{Title: "Dashboards", URL: a.settings.dashboardsURL})
	}
	return s
}
