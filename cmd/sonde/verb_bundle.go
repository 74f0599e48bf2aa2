package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/sonde-ebpf/sonde/internal/bundle"
	"github.com/sonde-ebpf/sonde/internal/config"
)

// Bounds of one item of a bundle.
const (
	bundleItemBytes   = 8 << 20
	bundleItemTimeout = 15 * time.Second
)

// bundling is the verb support-bundle.
type bundling struct {
	settings   *settings
	output     string
	maxBytes   int
	watch      time.Duration
	kubernetes bool
	namespace  string
	unit       string
	json       bool
	stdout     io.Writer
}

func (c *cli) addBundle() {
	verb := c.app.Command("support-bundle", "Pack into one file what whoever helps wants to know: the machine, the sensor, its log. Secrets, and arguments and environments of processes, are not in it. It takes the flags of run too: give those of the sensor.")
	b := &bundling{settings: newSettings(verb)}
	verb.Flag("output", "File to write. Empty: a new one here, named after node and time.").Short('o').StringVar(&b.output)
	verb.Flag("max-bytes", "Most bytes of all items together, before they are compressed.").Default("67108864").IntVar(&b.maxBytes)
	verb.Flag("watch", "How long the sensor is watched: live events, with a scrape before and after them.").Default("5s").DurationVar(&b.watch)
	verb.Flag("kubernetes", "Ask kubectl for the sensor's objects, too: run it where kubectl works.").BoolVar(&b.kubernetes)
	verb.Flag("namespace", "Of the sensor in Kubernetes.").Default("sonde").StringVar(&b.namespace)
	verb.Flag("unit", "Of the sensor in systemd.").Default("sonde.service").StringVar(&b.unit)
	verb.Flag("json", "Print the manifest as JSON instead of progress.").BoolVar(&b.json)
	c.asks[verb.FullCommand()] = func(ctx context.Context, stdout io.Writer) error {
		b.stdout = stdout
		return b.run(ctx)
	}
}

// run writes the bundle beside its name first, so that there is never half of one. A
// sensor that does not run or is badly configured is no reason to have none.
func (b *bundling) run(ctx context.Context) error {
	c, configErr := b.settings.load()
	if configErr != nil {
		c = config.New(defaultCollectors(false))
	}
	now := time.Now().UTC()
	host, _ := os.Hostname() // a name is a convenience
	name := fmt.Sprintf("sonde-support-%s-%s", cmp.Or(b.settings.node, host, "node"), now.Format("20060102T150405Z"))
	output := cmp.Or(b.output, name+".tar.gz")
	file, err := os.OpenFile(output+".partial", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return &exitError{code: exitResources, err: fmt.Errorf("write the bundle: %w", err), hint: "name another place with --output"}
	}
	manifest, err := bundle.Write(ctx, file, b.items(c, configErr), bundle.Options{
		Version: version, Dir: name, MaxItem: bundleItemBytes, MaxTotal: b.maxBytes, Timeout: bundleItemTimeout,
		Redactor: bundle.NewRedactor(b.settings.secrets()...), Progress: b.progress,
	})
	if err := errors.Join(err, file.Close()); err != nil {
		return errors.Join(&exitError{code: exitResources, err: fmt.Errorf("write the bundle: %w", err), hint: "name another place with --output"}, os.Remove(file.Name()))
	}
	if err := os.Rename(file.Name(), output); err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	if b.json {
		return writeJSON(b.stdout, manifest)
	}
	_, err = fmt.Fprintf(b.stdout, "wrote %s\n", output)
	return err
}

// progress shows a line for every item.
func (b *bundling) progress(n, of int, o bundle.Outcome) error {
	if b.json {
		return nil
	}
	_, err := fmt.Fprintf(b.stdout, "%3d/%d  %-8s %10s  %s%s\n", n, of, o.Status, size(uint64(o.Bytes)), o.Item, note(o.Detail))
	return err
}

func note(detail string) string {
	if detail == "" {
		return ""
	}
	return ": " + printable(detail)
}

// items is what goes into the bundle, in the order in which it is given up where
// there is no room: the sensor first.
func (b *bundling) items(c *config.Config, configErr error) []bundle.Item {
	s := b.settings
	m := newMachine(s)
	d, err := discover(s.runDir)
	all := b.sensorItems(c, m, d, errors.Join(configErr, err))
	if err == nil {
		all = append(all, bundle.SensorProcess(s.procFS, d.PID)...)
	}
	release, _ := m.fs.KernelRelease() // not known: its configuration is absent
	all = append(all, bundle.Machine(bundle.MachineOptions{
		Root: s.rootFS, Proc: s.procFS, Sys: s.sysFS, Release: release,
		Dirs: []string{s.stateDir, s.runDir, s.pinDir, s.eventsDir, filepath.Dir(s.configFile)},
		Unit: b.unit, Cloud: m.cloudProvider() != "none",
	})...)
	if b.kubernetes {
		all = append(all, bundle.Kubernetes(b.namespace)...)
	}
	return all
}

// secrets are what the files hold that the settings name for credentials.
func (s *settings) secrets() (all []config.Secret) {
	for _, name := range []string{s.push.passwordFile, s.push.bearerTokenFile, s.push.headersFile, s.push.keyFile} {
		if name == "" {
			continue
		}
		if text, err := os.ReadFile(name); err == nil {
			all = append(all, secretsIn(string(text))...)
		}
	}
	return all
}
