package introspect

import (
	"net/http"
	"net/netip"
	"time"

	"github.com/sonde-ebpf/sonde/internal/state"
)

// connections answers GET /state/network/connection.
func (c *call) connections() error {
	if c.sources.Connections == nil {
		return missing("connections")
	}
	q, err := c.query()
	if err != nil {
		return err
	}
	total, rows := c.sources.Connections.Connections(q)
	if err := c.checkContainer(q.Container, total); err != nil {
		return err
	}
	e := byContainer{encoder: c.encoder(total)}
	for row := range rows {
		e.begin(row.Container)
		e.connection(row, q, c.sources.Wall)
		if !e.row() {
			return e.err
		}
	}
	return e.end(c.shownContainer(q.Container))
}

func (e *encoder) connection(row *state.Connection, q state.Query, wall func(uint64) time.Time) {
	e.bool(`{"active":`, row.Active)
	if row.Inbound {
		e.peer(`,"from":`, row.Peer)
	}
	e.text(`,"l4proto":`, protocol(row.Protocol))
	e.optional(`,"network":`, row.Network)
	e.uint(`,"port":`, uint64(row.Port))
	if !row.Inbound {
		e.peer(`,"to":`, row.Peer)
	}
	if q.Detail {
		e.socket(`,"local":`, row.Local)
		e.socket(`,"remote":`, row.Remote)
		if row.PID != 0 {
			e.uint(`,"pid":`, uint64(row.PID))
		}
		e.optional(`,"comm":`, row.Comm)
		e.optional(`,"exe":`, row.Exe)
		e.time(`,"since":`, wallTime(wall, row.OpenedNS))
		e.time(`,"until":`, wallTime(wall, row.ClosedNS))
		if row.Measured {
			e.uint(`,"bytes":{"received":`, row.Received)
			e.uint(`,"sent":`, row.Sent)
			e.raw("}")
		}
	}
	e.raw("}")
}

// peer writes a single address without the length of its prefix.
func (e *encoder) peer(key string, p netip.Prefix) {
	if p.IsSingleIP() {
		e.addr(key, p.Addr())
		return
	}
	e.prefix(key, p)
}

// endpoints answers GET /state/network/endpoint.
func (c *call) endpoints() error {
	if c.sources.Endpoints == nil {
		return missing("endpoints")
	}
	q, err := c.query()
	if err != nil {
		return err
	}
	total, rows := c.sources.Endpoints.Endpoints(q)
	if err := c.checkContainer(q.Container, total); err != nil {
		return err
	}
	e := byContainer{encoder: c.encoder(total)}
	for i := range rows {
		e.begin(rows[i].Container)
		e.endpoint(&rows[i], q, c.sources.Wall)
		if !e.row() {
			return e.err
		}
	}
	return e.end(c.shownContainer(q.Container))
}

func (e *encoder) endpoint(row *state.Endpoint, q state.Query, wall func(uint64) time.Time) {
	e.bool(`{"active":`, row.Active)
	e.addr(`,"endpoint":{"address":`, row.Address)
	e.uint(`,"port":`, uint64(row.Port))
	e.text(`},"l4proto":`, protocol(row.Protocol))
	if q.Detail {
		e.uint(`,"originator":{"pid":`, uint64(row.PID))
		e.optional(`,"comm":`, row.Comm)
		e.optional(`,"exe":`, row.Exe)
		if row.Args != "" {
			e.raw(`,"args":`)
			e.value(arguments(row.Args))
		}
		e.raw("}")
		e.time(`,"since":`, wallTime(wall, row.OpenedNS))
		e.time(`,"until":`, wallTime(wall, row.ClosedNS))
	}
	e.raw("}")
}

// checkContainer refuses a container that nobody knows.
func (c *call) checkContainer(id string, total int) error {
	if id == "" || id == state.Host || total > 0 || c.sources.Containers == nil {
		return nil
	}
	if _, ok := c.sources.Containers.Container(id); !ok {
		return problemf(http.StatusNotFound, "container %s is not known", quote(id))
	}
	return nil
}

// shownContainer is the key of an answer about one container, "" of one about all.
func (c *call) shownContainer(asked string) string {
	if asked == "" {
		return ""
	}
	return state.ShortID(asked)
}

func protocol(p uint8) string {
	switch p {
	case state.TCP:
		return "TCP"
	case state.UDP:
		return "UDP"
	}
	return "UNKNOWN"
}

// wallTime returns the zero time for 0, and where there is no clock.
func wallTime(wall func(uint64) time.Time, bootNS uint64) time.Time {
	if bootNS == 0 || wall == nil {
		return time.Time{}
	}
	return wall(bootNS)
}
