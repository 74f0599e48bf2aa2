package main

import (
	"context"
	"errors"
	"io"

	"github.com/sonde-ebpf/sonde/internal/gvisor"
)

// addTrace adds the verbs about sessions.
func (c *cli) addTrace() {
	trace := c.app.Command("trace", "Sessions: which events go where.")
	metadata := trace.Command("metadata", "With --gvisor, print the session file that makes gVisor's sandboxes report to the sensor, for `runsc --pod-init-config`.")
	forGVisor := metadata.Flag("gvisor", "Print a session file for gVisor's runsc.").Bool()
	endpoint := metadata.Flag("gvisor.endpoint", "The socket on which the sensor receives sandboxes.").
		Default(gvisor.DefaultEndpoint).Envar("SONDE_GVISOR_ENDPOINT").String()
	c.asks[metadata.FullCommand()] = func(_ context.Context, stdout io.Writer) error {
		if !*forGVisor {
			return usageError(errors.New("trace metadata needs --gvisor"))
		}
		if err := checkEndpoint(*endpoint); err != nil {
			return failf(exitConfig, "--gvisor.endpoint: %w", err)
		}
		text, err := gvisor.SessionFile(*endpoint)
		if err != nil {
			return err
		}
		_, err = stdout.Write(text)
		return err
	}
}
