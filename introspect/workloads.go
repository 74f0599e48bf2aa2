package introspect

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/sonde-ebpf/sonde/internal/state"
)

// containers answers GET /state/containers.
func (c *call) containers() error {
	if c.sources.Containers == nil {
		return missing("containers")
	}
	q, err := c.query()
	if err != nil {
		return err
	}
	all := c.sources.Containers.Containers()
	total := len(all)
	all = all[min(q.Offset, len(all)):]
	if q.Limit > 0 {
		all = all[:min(q.Limit, len(all))]
	}
	e := c.encoder(total)
	separator := "["
	for _, one := range all {
		text, err := json.Marshal(shownContainer{state.ShortID(one.ID), one})
		if err != nil {
			return err
		}
		e.raw(separator)
		e.raw(string(text))
		separator = ","
		if !e.row() {
			return e.err
		}
	}
	return e.endList(separator)
}

// endList ends a list whose next row would have come after separator.
func (e *encoder) endList(separator string) error {
	if separator == "[" {
		e.raw("[")
	}
	e.raw("]")
	return e.close()
}

// container answers GET /state/containers/{id}.
func (c *call) container() error {
	if c.sources.Containers == nil {
		return missing("containers")
	}
	id := c.r.PathValue("id")
	if !validID(id) {
		return problemf(http.StatusBadRequest, "%s is not the id of a container: write letters, digits, and - _ . between them", quote(id))
	}
	one, ok := c.sources.Containers.Container(id)
	if !ok {
		return problemf(http.StatusNotFound, "container %s is not known", quote(id))
	}
	return c.answer(shownContainer{state.ShortID(one.ID), one})
}

// shownContainer is a container with the id that other answers know it by.
type shownContainer struct {
	ContainerID string `json:"container_id"`
	Container
}

// processes answers GET /state/processes.
func (c *call) processes() error {
	if c.sources.Processes == nil {
		return missing("processes")
	}
	q, err := c.query()
	if err != nil {
		return err
	}
	total, rows := c.sources.Processes.Processes(q)
	if err := c.checkContainer(q.Container, total); err != nil {
		return err
	}
	e := c.encoder(total)
	separator := "["
	for row := range rows {
		e.raw(separator)
		separator = ","
		e.process(row, c.sources)
		if !e.row() {
			return e.err
		}
	}
	return e.endList(separator)
}

// process answers GET /state/processes/{pid}.
func (c *call) process() error {
	if c.sources.Processes == nil {
		return missing("processes")
	}
	text := c.r.PathValue("pid")
	pid, err := strconv.ParseUint(text, 10, 32)
	if err != nil || pid == 0 {
		return problemf(http.StatusBadRequest, "%s is not the id of a process: write a number", quote(text))
	}
	row, ok := c.sources.Processes.Process(uint32(pid))
	if !ok {
		return problemf(http.StatusNotFound, "process %d is not known", pid)
	}
	e := c.encoder(1)
	e.process(&row, c.sources)
	return e.close()
}

func (e *encoder) process(row *state.Process, sources Sources) {
	e.uint(`{"pid":`, uint64(row.PID))
	e.uint(`,"ppid":`, uint64(row.PPID))
	e.text(`,"container":`, row.Container)
	e.text(`,"comm":`, row.Comm)
	e.text(`,"exe":`, row.Exe)
	e.arguments(`,"args":`, row.Args)
	e.uint(`,"uid":`, uint64(row.UID))
	if row.LoginUID != state.NoLoginUID {
		e.uint(`,"loginuid":`, uint64(row.LoginUID))
	}
	if row.Cgroup != 0 {
		e.uint(`,"cgroup":`, row.Cgroup)
	}
	e.time(`,"start":`, wallTime(sources.Wall, row.StartNS))
	e.time(`,"exited":`, wallTime(sources.Wall, row.ExitedNS))
	e.raw(`,"lineage":[`)
	for i, a := range row.Lineage {
		if i > 0 {
			e.raw(",")
		}
		e.uint(`{"pid":`, uint64(a.PID))
		e.text(`,"comm":`, a.Comm)
		e.text(`,"exe":`, a.Exe)
		if a.Exited {
			e.raw(`,"exited":true`)
		}
		e.raw("}")
	}
	e.raw("]}")
}
