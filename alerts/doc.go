// Package alerts holds the recording and alert rules in one Go source, from which
// rules.yml and the manifests of the Prometheus operator are made. Its tests run every
// alert through promtool, firing and not firing, and hold every expression to the
// catalogue of metrics.
//
// Where a rule needs a quantile it has both forms of a histogram, joined by "or", so
// that it answers whether Prometheus scrapes native histograms or classic buckets.
package alerts

//go:generate go test -count=1 -run TestGenerated . -update
