package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"golang.org/x/sys/unix"
)

// checkReport is what `sonde check --json` prints.
type checkReport struct {
	Build  build     `json:"build"`
	OK     bool      `json:"ok"`
	Code   exitCode  `json:"exit_code"`
	Checks []finding `json:"checks"`
}

// runCheck prints what the checks found. The exit code is that of the first
// failure, and 0 if a start would succeed, maybe with something missing.
func runCheck(ctx context.Context, s *settings, stdout io.Writer, asJSON bool) error {
	c, err := s.load()
	if err != nil {
		return err
	}
	p := &preflight{machine: newMachine(s), settings: s, config: c}
	all := append(p.ask(checks), p.ask(aloneChecks)...)
	failure := firstFailure(all)
	if asJSON {
		err = writeJSON(stdout, checkReport{thisBuild(), failure == nil, codeOf(failure), all})
	} else {
		err = writeFindings(stdout, all, isTerminal(stdout))
	}
	if err != nil {
		return err
	}
	return failure
}

// writeFindings writes the aligned table for people.
func writeFindings(w io.Writer, all []finding, colour bool) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range all {
		text := f.Detail
		if f.Status != statusOK && f.Remedy != "" {
			text += " — " + f.Remedy
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", paint(f.Status, colour), f.Check, text)
	}
	return table.Flush()
}

// paint colours a status.
func paint(s status, colour bool) string { return paintAs(s, string(s), colour) }

// paintAs colours a word as a status; one that is none gets no colour. Every colour
// code has the same length, so that the columns stay aligned.
func paintAs(s status, word string, colour bool) string {
	if !colour {
		return word
	}
	code := map[status]string{statusOK: "32", statusWarn: "33", statusFail: "31", "": "39"}[s]
	return "\x1b[" + code + "m" + word + "\x1b[0m"
}

// isTerminal reports whether w is a terminal whose user did not decline colours.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}
