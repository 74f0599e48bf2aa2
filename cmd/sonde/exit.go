package main

import (
	"errors"
	"fmt"
	"io"
	"syscall"
)

// exitCode is the status the process ends with. Each has one meaning; the table
// below is the reference, docs/exit-codes.md is made from it.
type exitCode int

const (
	exitOK         exitCode = 0
	exitUnexpected exitCode = 1
	exitKernel     exitCode = 10
	exitArch       exitCode = 11
	exitProbes     exitCode = 13
	exitConfig     exitCode = 14
	exitPrivileges exitCode = 15
	exitPolicy     exitCode = 16
	exitBTF        exitCode = 17
	exitRunning    exitCode = 20
	exitListen     exitCode = 21
	exitState      exitCode = 22
	exitResources  exitCode = 23
	exitStop       exitCode = 24
	exitNoSensor   exitCode = 30
	exitNoAnswer   exitCode = 31
	exitNotReady   exitCode = 32
	exitUsage      exitCode = 64
	exitSignal     exitCode = 128 // plus the number of the signal
)

// exitCodes lists every code. 2 is not ours to use: the Go run time ends with it
// after a crash, and the next start takes it for one.
var exitCodes = []struct {
	code    exitCode
	text    string // as documentation writes the code
	meaning string
	remedy  string
}{
	{exitOK, "0", "clean end; `check` found nothing that forbids a start", ""},
	{exitUnexpected, "1", "an error that has no code of its own", "read the last line on stderr"},
	{2, "2", "crash of the Go run time (never chosen by Sonde)", "report it with the stack trace on stderr"},
	{exitKernel, "10", "the kernel is too old", "use " + minKernelText + " or newer"},
	{exitArch, "11", "this processor architecture has no eBPF objects", "use amd64 or arm64"},
	{exitProbes, "13", "not one probe could be attached", "the summary names the reason of each"},
	{exitConfig, "14", "the configuration file, a flag's value or a web config file is not valid", "every fault is named, with its line and what to write"},
	{exitPrivileges, "15", "not root, or a capability is missing", "the message names the capabilities"},
	{exitPolicy, "16", "kernel lockdown or a security module forbids eBPF", "the message names the policy"},
	{exitBTF, "17", "the kernel has no type information (BTF)", "name a BTF file of this very kernel with --btf"},
	{exitRunning, "20", "another instance uses the same --bpf.pin-dir", "the message names its pid"},
	{exitListen, "21", "a listen address cannot be opened", "free the port or choose another --web.listen-address"},
	{exitState, "22", "the state or run directory cannot be used", "make it writable or choose another --state.dir or --run.dir"},
	{exitResources, "23", "a resource ran out: memory, descriptors, space", "the message names it"},
	{exitStop, "24", "the orderly stop did not end in time; events may be lost, counts are not", "see --run.stop-timeout"},
	{exitNoSensor, "30", "no sensor is running here, so that a verb has nobody to ask", "start one with `sonde run`, or name one with --run.dir or --address"},
	{exitNoAnswer, "31", "the sensor cannot be reached, or refuses to answer", "the message says why"},
	{exitNotReady, "32", "`status`: the sensor runs and is not ready", "the reasons are listed"},
	{exitUsage, "64", "the command line cannot be understood", "`sonde help`"},
	{exitSignal, "128 + n", "a second SIGINT or SIGTERM (n is its number) ended the stop at once", ""},
}

// exitError is an error that knows the code the process ends with, and maybe a
// hint for whoever has to repair it.
type exitError struct {
	code exitCode
	err  error
	hint string // a sentence without its full stop; "" for none
}

func (e *exitError) Error() string {
	if e.hint == "" {
		return e.err.Error()
	}
	return e.err.Error() + "; " + e.hint
}

func (e *exitError) Unwrap() error { return e.err }

// failf makes an exitError.
func failf(code exitCode, format string, args ...any) error {
	return &exitError{code: code, err: fmt.Errorf(format, args...)}
}

// codeOf returns the exit code of an error; a step closer to the cause wins.
func codeOf(err error) exitCode {
	var coded *exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &coded):
		return coded.code
	}
	return exitUnexpected
}

// errnoOf returns the errno at the bottom of an error, 0 if there is none.
func errnoOf(err error) syscall.Errno {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno
	}
	return 0
}

// report writes the one sentence that a failed verb ends with, and returns the
// code to end with.
func report(w io.Writer, err error) int {
	if err != nil {
		fmt.Fprintf(w, "sonde: %v\n", err)
	}
	return int(codeOf(err))
}
