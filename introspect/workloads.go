package introspect

import (
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
		e.raw(separator)
		separator = ","
		e.value(ContainerAnswer{state.ShortID(one.ID), one})
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
	return c.answer(ContainerAnswer{state.ShortID(one.ID), one})
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
		e.value(processAnswer(row, c.sources.Wall))
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
	e.value(processAnswer(&row, c.sources.Wall))
	return e.close()
}
