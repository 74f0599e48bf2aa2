package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sonde-ebpf/sonde/internal/bundle"
	"github.com/sonde-ebpf/sonde/internal/config"
	"github.com/sonde-ebpf/sonde/introspect/client"
)

// sensorItems is what the sensor tells of itself, and what the check finds; why it
// cannot be asked, where it does not run, is in the item sensor/state.txt.
func (b *bundling) sensorItems(c *config.Config, m machine, d discovery, why error) []bundle.Item {
	s := b.settings
	all := []bundle.Item{
		{Name: "sensor/version.json", Collect: asJSON(func() any { return thisBuild() })},
		{Name: "sensor/state.txt", Collect: func(_ context.Context, w io.Writer) error {
			if why != nil {
				_, err := fmt.Fprintln(w, why)
				return err
			}
			_, err := fmt.Fprintf(w, "sonde %s, pid %d, started %s\n", d.Version, d.PID, d.Started)
			return err
		}},
		{Name: "sensor/check.json", Collect: asJSON(func() any {
			p := &preflight{machine: m, settings: s, config: c}
			found := append(p.ask(checks), p.ask(aloneChecks)...)
			failure := firstFailure(found)
			return checkReport{thisBuild(), failure == nil, codeOf(failure), found}
		})},
		{Name: "sensor/settings.json", Collect: asJSON(func() any { return s.values(c) })},
		{Name: "sensor/termination.txt", Collect: func(_ context.Context, w io.Writer) error {
			text, err := os.ReadFile(s.terminationFile)
			if err == nil {
				_, err = w.Write(text)
			}
			return err
		}},
	}
	if d.PID == 0 {
		return all
	}
	sensor := bundleClient(d, listenerIntrospect)
	for _, of := range []struct{ name, path string }{
		{"ready", "/ready"}, {"pipeline", "/state/pipeline"}, {"sensor", "/state/sensor"}, {"config", "/state/runtime-config"},
		{"sessions", "/trace/sessions"}, {"loglevel", "/loglevel"}, {"containers", "/state/containers"},
		{"endpoints", "/state/network/endpoint?limit=5000"}, {"processes", "/state/processes?limit=5000"},
	} {
		all = append(all, bundle.Item{Name: "sensor/" + of.name + ".json", Collect: sensor.answer(of.path)})
	}
	metrics := bundleClient(d, listenerMetrics)
	return append(
		all,
		bundle.Item{Name: "sensor/metrics-1.txt", Collect: metrics.file("/metrics")},
		bundle.Item{Name: "sensor/healthz.txt", Collect: metrics.file("/healthz")},
		bundle.Item{Name: "sensor/log.txt", Collect: logFile(s.procFS, d.PID)},
		bundle.Item{Name: "sensor/events.json", Collect: sensor.events(b.watch)},
		bundle.Item{Name: "sensor/goroutines.txt", Collect: sensor.file("/debug/pprof/goroutine?debug=1")},
		bundle.Item{Name: "sensor/heap.pb.gz", Binary: true, Collect: sensor.file("/debug/pprof/heap")},
		bundle.Item{Name: "sensor/metrics-2.txt", Collect: metrics.file("/metrics")},
	)
}

type collectFunc = func(ctx context.Context, w io.Writer) error

func asJSON(value func() any) collectFunc {
	return func(_ context.Context, w io.Writer) error { return writeJSON(w, value()) }
}

// logFile collects the end of the file to which the sensor's stderr goes; where it
// goes elsewhere, the item service/journal.txt or the container runtime has it.
func logFile(proc string, pid int) collectFunc {
	return func(_ context.Context, w io.Writer) error {
		path := filepath.Join(proc, strconv.Itoa(pid), "fd", "2")
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return err
		case !info.Mode().IsRegular():
			return fmt.Errorf("stderr goes to no file: %w", fs.ErrNotExist)
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(w, io.NewSectionReader(f, max(0, info.Size()-bundleItemBytes), bundleItemBytes))
		return err
	}
}

// bundleSource asks the running sensor at one of its listeners, or fails always.
type bundleSource struct {
	client *client.Client
	err    error
}

// bundleClient chooses the first address of a listener that can be reached.
func bundleClient(d discovery, listener string) bundleSource {
	faults := []error{fmt.Errorf("the sensor (pid %d) has no listener for %s that answers", d.PID, listener)}
	for _, address := range d.Addresses[listener] {
		if strings.HasPrefix(address, "/") {
			address = "unix://" + address
		}
		err := knock(context.Background(), address)
		if err == nil {
			made, err := client.New(client.Options{Address: address, Timeout: bundleItemTimeout})
			return bundleSource{made, err}
		}
		faults = append(faults, err)
	}
	return bundleSource{err: errors.Join(faults...)}
}

func (s bundleSource) file(path string) collectFunc {
	return func(ctx context.Context, w io.Writer) error {
		if s.err != nil {
			return s.err
		}
		text, err := s.client.File(ctx, path)
		if err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	}
}

// answer asks for JSON, also from a sensor that is not ready, and takes the arguments
// of processes out.
func (s bundleSource) answer(path string) collectFunc {
	return func(ctx context.Context, w io.Writer) error {
		if s.err != nil {
			return s.err
		}
		var answer any
		if err := s.client.Ask(ctx, http.MethodGet, path, "", &answer, http.StatusServiceUnavailable); err != nil {
			return err
		}
		return writeJSON(w, withoutArguments(answer))
	}
}

// events follows live events for a while.
func (s bundleSource) events(period time.Duration) collectFunc {
	return func(ctx context.Context, w io.Writer) error {
		if s.err != nil {
			return s.err
		}
		ctx, cancel := context.WithTimeout(ctx, period)
		defer cancel()
		err := s.client.Follow(ctx, "/trace/events", func(line []byte) error {
			var event any
			if err := json.Unmarshal(line, &event); err != nil {
				return fmt.Errorf("decode event: %w", err)
			}
			short, err := json.Marshal(withoutArguments(event))
			if err != nil {
				return err
			}
			_, err = w.Write(append(short, '\n'))
			return err
		})
		if errors.Is(err, context.DeadlineExceeded) {
			return nil
		}
		return err
	}
}

// withoutArguments takes out of an answer what holds arguments of processes.
func withoutArguments(answer any) any {
	switch a := answer.(type) {
	case map[string]any:
		delete(a, "args")
		delete(a, "arguments")
		for _, value := range a {
			withoutArguments(value)
		}
	case []any:
		for _, value := range a {
			withoutArguments(value)
		}
	}
	return answer
}

// secretsIn takes a file of credentials apart: the whole, its lines, and of a header
// the value.
func secretsIn(text string) (all []config.Secret) {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil
	}
	all = append(all, config.NewSecret(text))
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if _, value, is := strings.Cut(line, ": "); is {
			line = value
		}
		all = append(all, config.NewSecret(line))
	}
	return all
}
