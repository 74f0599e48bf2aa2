package collectors

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

var (
	directionLabel = metric.Enum("direction", "inbound", "outbound")
	peerLabel      = metric.Enum("peer", "private", "public", "loopback")
	protocolLabel  = metric.Enum("protocol", "tcp", "udp")
	flowLabel      = metric.Enum("flow", "sent", "received")
	// commonErrnos have a series from the start, so that the first failure is an
	// increase; others come once they have occurred.
	commonErrnos = [bpf.Directions][]string{
		bpf.Inbound:  {"aborted", "ECONNRESET", "ETIMEDOUT", metric.Other},
		bpf.Outbound: {"aborted", "ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH", "ENETUNREACH", "ETIMEDOUT", metric.Other},
	}

	connections = declared.Gauge("connections",
		"Connections and flows open now, those found open at the start included.",
		directionLabel, peerLabel, protocolLabel)
	connectionsOpened = declared.Counter("connections_opened_total",
		"Connections established, and flows begun.",
		directionLabel, peerLabel, protocolLabel)
	connectionsClosed = declared.Counter("connections_closed_total",
		"Connections and flows that were counted as opened and have ended.",
		directionLabel, peerLabel, protocolLabel)
	connectionsFailed = declared.Counter("connections_failed_total",
		"TCP connection attempts that did not establish, each once.",
		directionLabel, metric.Open("errno", `symbolic error numbers, and "aborted" for attempts given up without one`))
	connectionDuration = declared.Histogram("connection_duration_seconds",
		"Time from establishment to the end of a TCP connection.",
		metric.Seconds(-10, 17), directionLabel)
	connectionHandshake = declared.Histogram("connection_handshake_seconds",
		"Time to establish a TCP connection: outbound from the first SYN, inbound the smoothed round trip time then.",
		metric.Seconds(-17, 3), directionLabel)
	connectionBytes = declared.Counter("connection_bytes_total",
		"Bytes of TCP payload: sent without retransmissions, received as delivered. Open connections are included.",
		directionLabel, peerLabel, flowLabel)
	endpoints = declared.Gauge("endpoints",
		"Listening TCP sockets, and UDP sockets with a port and without a peer, now.",
		protocolLabel)
)

// TCPSource counts TCP connections.
type TCPSource interface {
	Read() (bpf.TCPStats, error)
}

// UDPSource counts UDP flows.
type UDPSource interface {
	Read() (bpf.UDPStats, error)
}

// Connections shows the connections of both protocols and, of TCP, what is in
// tcp.go.
type Connections struct {
	tcp                    TCPSource
	udp                    UDPSource
	tcpCreated, udpCreated time.Time
	exemplars              ExemplarSource
	failed                 *bound
}

// ConnectionsOptions names the sources of Connections. A probe that is not attached
// is nil: its protocol has no series then.
type ConnectionsOptions struct {
	TCP        TCPSource
	TCPCreated time.Time // when the probe was attached
	UDP        UDPSource
	UDPCreated time.Time
	Exemplars  ExemplarSource // may be nil
	Limits     Limits
}

// NewConnections returns the collector.
func NewConnections(o ConnectionsOptions) *Connections {
	c := &Connections{tcp: o.TCP, udp: o.UDP, tcpCreated: o.TCPCreated, udpCreated: o.UDPCreated, exemplars: o.Exemplars}
	if o.TCP != nil {
		c.failed = o.Limits.bound(o.TCPCreated, connectionsFailed)
	}
	return c
}

// Collect implements Collector. The sources are read at the same time: each walks over
// its sockets.
func (c *Connections) Collect(context.Context) ([]prometheus.Metric, error) {
	var (
		reading        sync.WaitGroup
		tcp            bpf.TCPStats
		udp            bpf.UDPStats
		tcpErr, udpErr error
		all            []prometheus.Metric
	)
	if c.udp != nil {
		reading.Go(func() { udp, udpErr = c.udp.Read() })
	}
	if c.tcp != nil {
		tcp, tcpErr = c.tcp.Read()
	}
	reading.Wait()
	if c.tcp != nil && tcpErr == nil {
		all = c.appendTCP(all, &tcp)
	}
	if c.udp != nil && udpErr == nil {
		all = appendOpen(all, &udp.Flows, "udp", c.udpCreated)
		all = append(all, endpoints.With(float64(udp.Endpoints), "udp"))
	}
	return all, errors.Join(tcpErr, udpErr)
}

func (c *Connections) appendTCP(all []prometheus.Metric, s *bpf.TCPStats) []prometheus.Metric {
	all = appendOpen(all, &s.Conns, "tcp", c.tcpCreated)
	all = append(all, c.failures(s.Failed)...)
	for d := range bpf.Direction(bpf.Directions) {
		duration := buckets(&s.Duration[d], c.tcpCreated)
		duration.Exemplar = exemplar(c.exemplars, [bpf.Directions]Subject{ConnectionInbound, ConnectionOutbound}[d])
		all = append(all,
			connectionDuration.With(duration, d.String()),
			connectionHandshake.With(buckets(&s.Handshake[d], c.tcpCreated), d.String()))
		for p := range bpf.Peer(bpf.Peers) {
			conn := &s.Conns[d][p]
			all = append(all,
				connectionBytes.WithCreated(float64(conn.Sent), c.tcpCreated, d.String(), p.String(), "sent"),
				connectionBytes.WithCreated(float64(conn.Received), c.tcpCreated, d.String(), p.String(), "received"))
		}
	}
	all = append(all, endpoints.With(float64(s.Listeners), "tcp"))
	return appendTCPOnly(all, s, c.tcpCreated)
}

// appendOpen appends what both protocols count.
func appendOpen(all []prometheus.Metric, stats *[bpf.Directions][bpf.Peers]bpf.ConnStat, protocol string, created time.Time) []prometheus.Metric {
	for d := range bpf.Direction(bpf.Directions) {
		for p := range bpf.Peer(bpf.Peers) {
			s := &stats[d][p]
			all = append(all,
				connections.With(float64(s.Open), d.String(), p.String(), protocol),
				connectionsOpened.WithCreated(float64(s.Opened), created, d.String(), p.String(), protocol),
				connectionsClosed.WithCreated(float64(s.Closed), created, d.String(), p.String(), protocol))
		}
	}
	return all
}

// failures shows the failures by error number, the common ones from the start.
func (c *Connections) failures(stats []bpf.ConnErrorStat) []prometheus.Metric {
	type kind struct {
		bpf.Direction
		errno string
	}
	counts := map[kind]uint64{}
	c.failed.inKernel = 0
	for _, s := range stats {
		counts[kind{s.Direction, s.Errno}] += s.Count
		if s.Errno == metric.Other && s.Count > 0 { // past the end of the probe's table
			c.failed.inKernel++
		}
	}
	round := c.failed.Begin(time.Now())
	add := func(k kind) {
		round.Add(float64(counts[k]), k.String(), k.errno)
		delete(counts, k)
	}
	for d, errnos := range commonErrnos {
		for _, errno := range errnos {
			add(kind{bpf.Direction(d), errno})
		}
	}
	for k := range counts {
		add(k)
	}
	return c.failed.limited(round.End())
}
