// Package e2e tests the built binary the way its users meet it: a real process
// on the real kernel, scraped by a real Prometheus. It holds tests only.
package e2e
