package main

import (
	"sync/atomic"

	"github.com/sonde-ebpf/sonde/internal/digest"
	"github.com/sonde-ebpf/sonde/internal/event"
)

// digester gives execs the digests of their files, while a session wants that.
type digester struct {
	*digest.Digests
	editor *event.Editor
	wanted atomic.Bool
}

// add gives an event the digest that it lacks, if that is known. Of the files of
// sandboxes there is no telling.
func (d *digester) add(ev *event.Event) {
	if ev.Point != event.ProcessExec || ev.Source != event.SourceKernel || !d.wanted.Load() {
		return
	}
	x := &ev.Exec
	f := digest.File{Device: x.Device, Inode: x.Inode, Bytes: x.Bytes, ChangedNS: x.ChangedNS}
	if sum, ok := d.Lookup(f, ev.Process.PID); ok {
		d.editor.Set(ev, event.TextDigest, sum[:], false)
	}
}
