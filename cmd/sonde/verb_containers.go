package main

import (
	"context"

	"github.com/sonde-ebpf/sonde/introspect"
)

func (c *cli) addContainers() {
	c.ask(c.app.Command("containers", "List the containers of this node, and how far the sensor has come with their names."), runContainers)
}

func runContainers(ctx context.Context, q *asking) error {
	if err := q.connect(ctx); err != nil {
		return err
	}
	all := []introspect.ContainerAnswer{}
	if err := q.get(ctx, "/state/containers", &all); err != nil {
		return err
	}
	return q.show(all, func(p *page) {
		p.row("CONTAINER", "RUNTIME", "NAMESPACE", "POD", "NAME", "IMAGE", "LOOK-UP")
		for _, c := range all {
			p.row(c.ContainerID, c.Runtime, c.Namespace, c.Pod, c.Name, c.Image, c.Enrichment)
		}
	})
}
