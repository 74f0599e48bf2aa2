// Package introspect answers what the sensor knows right now, as JSON over HTTP:
// who talks to whom, who listens, which processes and containers there are, how the
// sensor itself is configured and doing. It has a listener of its own, which only
// this node can reach unless it asks for credentials.
//
// The package knows routes and shapes. What it shows it takes from the sources,
// one small interface for each subject, and none of them knows HTTP. docs/routes.md
// is made from the table of routes.
package introspect

//go:generate go test -count=1 -run TestRoutesPage . -update
