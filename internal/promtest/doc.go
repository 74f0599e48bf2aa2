// Package promtest holds PromQL expressions to the catalogue of what the sensor
// exports: a query of a metric, a label or a value that does not exist can be
// written, parsed and loaded, and never answers. Only tests use it.
package promtest
