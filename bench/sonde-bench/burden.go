package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"time"

	"github.com/alecthomas/kingpin/v2"
)

// addBurden adds the verb that makes a sensor cost more, to see whether that is found.
func addBurden(app *kingpin.Application) (string, verb) {
	cmd := app.Command("burden", "Run a command, and beside it use processor time and memory that will be taken for its own.")
	cpu := cmd.Flag("cpu", "Share of a core, in percent.").Float64()
	memory := cmd.Flag("memory", "Bytes to hold.").Bytes()
	command := cmd.Arg("command", "Command and arguments, after --.").Required().Strings()
	return cmd.FullCommand(), func(ctx context.Context, stdout, stderr io.Writer) error {
		// The signal that ends this process is sent to its group: the command has it too.
		c := exec.Command((*command)[0], (*command)[1:]...)
		c.Stdout, c.Stderr = stdout, stderr
		if err := c.Start(); err != nil {
			return fmt.Errorf("burden: %w", err)
		}
		held := make([]byte, *memory)
		for i := range held {
			held[i] = 1
		}
		spin(ctx, *cpu/100, held)
		if err := c.Wait(); err != nil {
			return fmt.Errorf("burden: %w", err)
		}
		return nil
	}
}

// spin uses a share of a core until ctx ends, a twentieth of a second at a time.
func spin(ctx context.Context, share float64, held []byte) {
	const period = 50 * time.Millisecond
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		for began := time.Now(); time.Since(began) < time.Duration(share*float64(period)); {
			if len(held) > 0 {
				held[time.Now().UnixNano()%int64(len(held))]++
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
