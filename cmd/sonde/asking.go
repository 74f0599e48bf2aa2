package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"github.com/sonde-ebpf/sonde/internal/config"
	"github.com/sonde-ebpf/sonde/introspect/client"
)

// asking is a verb that asks a running sensor: its flags, and how it answers.
type asking struct {
	*client.Client
	stdout  io.Writer
	json    bool
	options client.Options
	extra   time.Duration // what the answer takes beyond --timeout, because it was asked for
	runDir  string
	table   []*setting
}

// newAsking makes the flags of a verb.
func newAsking(verb *kingpin.CmdClause) *asking {
	q := &asking{}
	q.table = q.flags()
	for _, f := range q.table {
		f.register(verb)
	}
	verb.Flag("json", "Print JSON.").BoolVar(&q.json)
	return q
}

// flags is every setting of such a verb, in the order of the help.
func (q *asking) flags() []*setting {
	o := &q.options
	return []*setting{
		{name: "address", show: redactAddress, set: checked(&o.Address, checkSensorAddress),
			help: "Introspection address of the sensor to ask: host:port, http://host:port, https://host:port or unix:///path. Empty: the sensor that runs on this machine, found through --run.dir."},
		{name: "run.dir", preset: []string{"/run/sonde"}, set: checked(&q.runDir, checkAbsolute),
			help: "Directory of the discovery file sonde.json."},
		{name: "username", set: text(&o.Username), help: "User name for basic authentication."},
		{name: "password-file", set: text(&o.PasswordFile), help: "File with the password that goes with --username."},
		{name: "ca-file", set: text(&o.CAFile),
			help: "PEM file of the authorities that may sign the sensor's certificate. Empty: those of the system."},
		{name: "cert-file", set: text(&o.CertFile), help: "PEM file of a client certificate."},
		{name: "key-file", set: text(&o.KeyFile), help: "PEM file of the client certificate's key."},
		{name: "timeout", preset: []string{"10s"}, set: period(&o.Timeout, 100*time.Millisecond, time.Hour),
			help: "Longest time that one answer may take."},
	}
}

// redactAddress hides credentials, which do not belong there, from messages.
func redactAddress(address string) string {
	if !strings.Contains(address, "@") {
		return address
	}
	return config.RedactURL(address)
}

func checkSensorAddress(address string) error {
	if address == "" {
		return nil
	}
	_, _, _, err := client.Parse(address)
	return err
}

// load checks the settings; every fault is returned at once.
func (q *asking) load() error {
	var faults []error
	for _, f := range q.table {
		faults = append(faults, f.apply(nil))
	}
	if err := errors.Join(faults...); err != nil {
		return &exitError{code: exitConfig, err: err}
	}
	return nil
}

// connect chooses the sensor to ask. Without --address it is the one that has left
// its addresses in the run directory: the first of them that can be reached.
func (q *asking) connect(ctx context.Context) error {
	if err := q.load(); err != nil {
		return err
	}
	if q.options.Address == "" {
		d, err := discover(q.runDir)
		if err != nil {
			return err
		}
		if q.options.Address, err = d.reachable(ctx, q.runDir); err != nil {
			return err
		}
	}
	q.options.Timeout += q.extra
	made, err := client.New(q.options)
	if err != nil {
		return &exitError{code: exitConfig, err: err}
	}
	q.Client = made
	return nil
}

// notRunning is the remedy where there is nobody to ask.
const notRunning = "start one with `sonde run`, or name one with --run.dir or --address"

// discover reads which sensor runs here.
func discover(runDir string) (d discovery, err error) {
	path := discoveryPath(runDir)
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return d, &exitError{exitNoSensor, fmt.Errorf("no sensor is running here (there is no %s)", path), notRunning}
	case err != nil:
		return d, &exitError{exitNoAnswer, err, "name the sensor with --address"}
	}
	if err := json.Unmarshal(data, &d); err != nil {
		return d, &exitError{exitNoAnswer, fmt.Errorf("read %s: %w", path, err), "name the sensor with --address"}
	}
	return d, nil
}

// reachable returns the first introspection address that accepts a connection. Where
// none does, the process tells whether the file is all that is left of it.
func (d *discovery) reachable(ctx context.Context, runDir string) (string, error) {
	var faults []string
	for _, address := range d.Addresses[listenerIntrospect] {
		err := knock(ctx, address)
		if err == nil {
			return address, nil
		}
		faults = append(faults, err.Error())
	}
	switch {
	case errors.Is(syscall.Kill(d.PID, 0), syscall.ESRCH):
		return "", &exitError{
			exitNoSensor, fmt.Errorf("no sensor is running here (%s was left behind by process %d, which has ended)", discoveryPath(runDir), d.PID), notRunning,
		}
	case len(faults) == 0:
		return "", &exitError{exitNoAnswer, fmt.Errorf("the sensor (pid %d) answers no questions", d.PID), "start it without --no-introspect.enable"}
	}
	return "", &exitError{code: exitNoAnswer, err: fmt.Errorf("reach the sensor (pid %d): %s", d.PID, strings.Join(faults, "; "))}
}

// knock opens a connection and closes it again.
func knock(ctx context.Context, address string) error {
	network, dial, _, err := client.Parse(address)
	if err != nil {
		return fmt.Errorf("address %q: %w", address, err)
	}
	d := net.Dialer{Timeout: 5 * time.Second}
	c, err := d.DialContext(ctx, network, dial)
	if err != nil {
		return err
	}
	return c.Close()
}

// get asks, and gives an error its exit code.
func (q *asking) get(ctx context.Context, path string, into any) error {
	return answered(q.Get(ctx, path, into))
}

// answered gives an error of asking its exit code and a hint.
func answered(err error) error {
	if err == nil {
		return nil
	}
	hint := ""
	var refused *client.Error
	var slow net.Error
	switch {
	case errors.As(err, &refused) && refused.Status == http.StatusUnauthorized:
		hint = "say who asks with --username and --password-file"
	case errors.As(err, &slow) && slow.Timeout():
		hint = "it may be busy: a longer --timeout waits for it"
	}
	return &exitError{code: exitNoAnswer, err: err, hint: hint}
}

// show prints an answer: as JSON, or as people read it.
func (q *asking) show(answer any, people func(*page)) error {
	if q.json {
		return writeJSON(q.stdout, answer)
	}
	p := newPage(q.stdout)
	people(p)
	return p.flush()
}
