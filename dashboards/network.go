package dashboards

// network is connections and packets.
func network() board {
	return board{
		uid: "sonde-network", title: "Sonde / Network",
		description: "TCP connections and UDP flows in all network namespaces, their bytes, failures and round trip times, and packets that the kernel dropped.",
		rows: []row{
			{title: "Connections", panels: []panel{
				{kind: stacked, title: "Open", unit: "none", width: 8, height: 8, description: "By direction, class of the peer and protocol. Over loopback both ends count.",
					queries: one(`sum by (direction, peer, protocol) (sonde_connections{F})`, "{{direction}} {{peer}} {{protocol}}")},
				{kind: series, title: "Opened", unit: "cps", width: 8, height: 8, description: "Connections established and flows begun. Far above the average of a day: SondeConnectionRateAnomaly.",
					queries: one(`sum by (direction, peer, protocol) (rate(sonde_connections_opened_total{F}[R]))`, "{{direction}} {{peer}} {{protocol}}")},
				{kind: series, title: "Closed", unit: "cps", width: 8, height: 8, description: "Connections and flows that ended. Below what is opened for long: they pile up.",
					queries: one(`sum by (direction, peer, protocol) (rate(sonde_connections_closed_total{F}[R]))`, "{{direction}} {{peer}} {{protocol}}")},
				{kind: series, title: "Failed attempts", unit: "cps", width: 12, height: 8, description: "By error: ECONNREFUSED nobody listens, ETIMEDOUT nobody answers, aborted given up.",
					queries: one(`sum by (direction, errno) (rate(sonde_connections_failed_total{F}[R]))`, "{{direction}} {{errno}}")},
				{kind: series, title: "Opened, 90 % of the last hour", unit: "cps", width: 12, height: 8, description: "What the rate of new connections stayed below for 90 % of the last hour; without loopback.",
					queries: one(`sum by (direction, peer) (instance_direction_peer:sonde_connections_opened:rate5m_quantile1h{F, quantile="0.9"})`, "{{direction}} {{peer}}")},
			}},
			{title: "Bytes and quality", panels: []panel{
				{kind: series, title: "Bytes", unit: "Bps", width: 8, height: 8, description: "TCP payload, without what was sent again.",
					queries: one(`sum by (direction, flow) (rate(sonde_connection_bytes_total{F}[R]))`, "{{direction}} {{flow}}")},
				{kind: series, title: "Sent again, and resets", unit: "cps", width: 8, height: 8, description: "Retransmitted segments are loss in the network; resets are ends that were not agreed on.", queries: []query{
					{`sum(rate(sonde_tcp_retransmits_total{F}[R]))`, "segments sent again"},
					{`sum by (flow) (rate(sonde_tcp_resets_total{F}[R]))`, "resets {{flow}}"},
				}},
				{kind: series, title: "Listening sockets", unit: "none", width: 8, height: 8, description: "Sockets that wait for peers.",
					queries: one(`sum by (protocol) (sonde_endpoints{F})`, "{{protocol}}")},
			}},
			{title: "Times", panels: []panel{
				{kind: heat, title: "Round trip time", unit: "s", width: 8, height: 9, description: "Smoothed round trip time of TCP connections at their end.", queries: histogram("sonde_tcp_rtt_seconds", "")},
				{kind: heat, title: "Time to establish", unit: "s", width: 8, height: 9, description: "Outbound from the first SYN. A second band at 1 s is a SYN that was lost.", queries: histogram("sonde_connection_handshake_seconds", "")},
				{kind: heat, title: "Lifetime of connections", unit: "s", width: 8, height: 9, description: "From establishment to the end.", queries: histogram("sonde_connection_duration_seconds", "")},
				{kind: series, title: "Round trip time, quantiles", unit: "s", width: 12, height: 8, description: "By direction, of the slowest sensor chosen.",
					queries: quantiles("instance_direction:sonde_tcp_rtt_seconds", ", direction", "{{direction}} p{{quantile}}")},
				{kind: series, title: "Time to establish, quantiles", unit: "s", width: 12, height: 8, description: "By direction, of the slowest sensor chosen.",
					queries: quantiles("instance_direction:sonde_connection_handshake_seconds", ", direction", "{{direction}} p{{quantile}}")},
			}},
			{title: "Packets", panels: []panel{
				{kind: stacked, title: "Dropped by reason", unit: "cps", width: 16, height: 8, description: "Packets that the kernel dropped and gave a reason for. no_socket: nobody listens; netfilter_drop: a firewall.",
					queries: one(`sum by (reason) (rate(sonde_packet_drops_total{F}[R]))`, "{{reason}}")},
				{kind: bars, title: "Commonest reasons", unit: "none", width: 8, height: 8, description: "Packets dropped within the range shown.",
					queries: one(`topk(10, sum by (reason) (increase(sonde_packet_drops_total{F}[$__range])))`, "{{reason}}")},
			}},
		},
	}
}
