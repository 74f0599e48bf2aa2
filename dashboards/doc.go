// Package dashboards builds the Grafana dashboards whose JSON is in json/. Its tests
// hold every query to the catalogue of metrics and every panel to the conventions of
// Grafana's own linter; the end-to-end tests ask a real Prometheus every query.
package dashboards

//go:generate go test -count=1 -run TestGenerated . -update
