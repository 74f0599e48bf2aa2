package main

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sonde-ebpf/sonde/introspect"
)

func (c *cli) addActors() {
	verb := c.app.Command("actors", "Show the live processes of this node as a tree: who started whom, as whom, in which container.")
	container := verb.Flag("container", "Only the processes of a container: its id, the first twelve characters of it, or host.").String()
	c.ask(verb, func(ctx context.Context, q *asking) error { return runActors(ctx, q, *container) })
}

func runActors(ctx context.Context, q *asking, container string) error {
	if err := q.connect(ctx); err != nil {
		return err
	}
	path := "/state/processes"
	if container != "" {
		path += "?" + url.Values{"container": {container}}.Encode()
	}
	all := []introspect.ProcessAnswer{}
	if err := q.get(ctx, path, &all); err != nil {
		return err
	}
	return q.show(all, func(p *page) {
		p.row("PID", "UID", "LOGIN", "CONTAINER", "AGE", "PROCESS")
		now := time.Now()
		forest(all, func(prefix string, a *introspect.ProcessAnswer) {
			login := ""
			if a.LoginUID != nil {
				login = fmt.Sprint(*a.LoginUID)
			}
			lived := ""
			if !a.Start.IsZero() {
				lived = age(now.Sub(a.Start))
			}
			p.row(a.PID, a.UID, login, a.Container, lived, prefix+shortened(command(a)))
		})
	})
}

// command is what a process runs: its arguments, else its file, else its name, which
// is all that kernel threads have.
func command(a *introspect.ProcessAnswer) string {
	switch {
	case len(a.Args) > 0:
		return strings.Join(a.Args, " ")
	case a.Exe != "":
		return a.Exe
	}
	return "[" + a.Comm + "]"
}

// longestCommand is how much of a command the table shows, in characters; the JSON has
// all of it.
const longestCommand = 160

func shortened(text string) string {
	n := 0
	for i := range text {
		if n++; n > longestCommand {
			return text[:i] + "…"
		}
	}
	return text
}

// forest visits every process, children below their parents and siblings by pid. A
// process whose parent is not among them is a root. prefix draws the branches.
func forest(all []introspect.ProcessAnswer, visit func(prefix string, a *introspect.ProcessAnswer)) {
	known := map[uint32]*introspect.ProcessAnswer{}
	for i := range all {
		known[all[i].PID] = &all[i]
	}
	children := map[uint32][]*introspect.ProcessAnswer{} // of 0: the roots
	for i := range all {
		a := &all[i]
		parent := known[a.PPID]
		if parent == nil || !older(parent, a) {
			children[0] = append(children[0], a)
			continue
		}
		children[a.PPID] = append(children[a.PPID], a)
	}
	var walk func(pid uint32, branch string)
	walk = func(pid uint32, branch string) {
		list := children[pid]
		slices.SortFunc(list, func(a, b *introspect.ProcessAnswer) int { return cmp.Compare(a.PID, b.PID) })
		for i, a := range list {
			fork, below := "├─ ", "│  "
			switch {
			case pid == 0:
				fork, below = "", ""
			case i == len(list)-1:
				fork, below = "└─ ", "   "
			}
			visit(branch+fork, a)
			walk(a.PID, branch+below)
		}
	}
	walk(0, "")
}

// older reports whether a process can be the parent of another: rows are read one
// after the other, and a pid may have been given out again in between. It also makes
// a circle impossible.
func older(parent, child *introspect.ProcessAnswer) bool {
	return cmp.Or(parent.Start.Compare(child.Start), cmp.Compare(parent.PID, child.PID)) < 0
}
