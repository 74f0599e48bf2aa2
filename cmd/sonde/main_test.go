package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

var update = flag.Bool("update", false, "rewrite generated and golden files")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sonde": main})
}

// TestScript runs the real program as its users do.
func TestScript(t *testing.T) {
	runScripts(t, "testdata/script", nil)
}

// TestScriptRoot does so where a start must succeed.
func TestScriptRoot(t *testing.T) {
	testenv.Root(t)
	testenv.File(t, "/sys/kernel/btf/vmlinux")
	runScripts(t, "testdata/script-root", ownPins)
}

// TestScriptJQ asks the logs what operators ask them.
func TestScriptJQ(t *testing.T) {
	testenv.Program(t, "jq")
	runScripts(t, "testdata/script-jq", nil)
}

// ownPins gives a script a pin directory of its own and removes what the sensor
// leaves there by design.
func ownPins(env *testscript.Env) error {
	dir := fmt.Sprintf("/sys/fs/bpf/sonde-test-%d-%s", os.Getpid(), filepath.Base(env.WorkDir))
	env.Setenv("SONDE_BPF_PIN_DIR", dir)
	for _, d := range []string{dir, dir + "-other"} { // a second sensor's
		env.Defer(func() { os.RemoveAll(d) })
	}
	return nil
}

func runScripts(t *testing.T, dir string, setup func(*testscript.Env) error) {
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		Setup:               setup,
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status":   scriptStatus,
			"await":    scriptAwait,
			"awaitlog": scriptAwaitLog,
			"get":      scriptGet,
			"hold":     scriptHold,
			"lines":    scriptLines,
			"port":     scriptPort,
			"put":      scriptPut,
		},
	})
}

// scriptStatus: "status 14 sonde run …" runs a program that must end with that code.
func scriptStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status code program args...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// scriptAwait: "await file" waits until the file exists, "! await file" until it is gone.
func scriptAwait(ts *testscript.TestScript, neg bool, args []string) {
	poll(ts, "file "+args[0], func() bool {
		_, err := os.Stat(ts.MkAbs(args[0]))
		return (err == nil) != neg
	})
}

// scriptAwaitLog: "awaitlog file text" waits until the file contains the text.
func scriptAwaitLog(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: awaitlog file text")
	}
	poll(ts, "text "+args[1], func() bool {
		data, err := os.ReadFile(ts.MkAbs(args[0]))
		return err == nil && strings.Contains(string(data), args[1])
	})
}

func poll(ts *testscript.TestScript, what string, there func() bool) {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if there() {
			return
		}
	}
	ts.Fatalf("%s: not within 20 s", what)
}

// scriptGet: "get url file" writes the status line and the body to a file.
func scriptGet(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: get url file")
	}
	res, err := http.Get(args[0])
	if neg {
		if err == nil {
			ts.Fatalf("%s answers", args[0])
		}
		return
	}
	keepAnswer(ts, res, err, args[1])
}

// scriptPut: "put url body file" sends the body from one file and writes the status
// line and the answer to another.
func scriptPut(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: put url body file")
	}
	req, err := http.NewRequest(http.MethodPut, args[0], strings.NewReader(ts.ReadFile(args[1])))
	ts.Check(err)
	res, err := http.DefaultClient.Do(req)
	keepAnswer(ts, res, err, args[2])
}

func keepAnswer(ts *testscript.TestScript, res *http.Response, err error, file string) {
	ts.Check(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(file), append([]byte(res.Status+"\n"), body...), 0o600))
}

// scriptHold: "hold address" opens a connection that asks half a question, so
// that a server cannot shut down quickly.
func scriptHold(ts *testscript.TestScript, _ bool, args []string) {
	c, err := net.Dial("tcp", args[0])
	ts.Check(err)
	ts.Defer(func() { c.Close() })
	_, err = io.WriteString(c, "GET /metr")
	ts.Check(err)
}

// scriptLines: "lines stderr 1" counts lines of the last output or of a file.
func scriptLines(ts *testscript.TestScript, _ bool, args []string) {
	text := strings.TrimSuffix(ts.ReadFile(args[0]), "\n")
	if n := strings.Count(text, "\n") + 1; strconv.Itoa(n) != args[1] {
		ts.Fatalf("%s has %d lines, want %s:\n%s", args[0], n, args[1], text)
	}
}

// scriptPort: "port NAME" puts a free port into the variable.
func scriptPort(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	defer l.Close()
	ts.Setenv(args[0], strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
}
