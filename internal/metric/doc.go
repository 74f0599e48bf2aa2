// Package metric holds the typed metric declarations and their catalogue.
//
// A package declares its families once, in a Set of its own:
//
//	var declared = metric.NewSet()
//
//	var callDuration = declared.Histogram("syscall_duration_seconds",
//		"Time in the kernel per system call.", metric.Seconds(-20, 4),
//		metric.Open("syscall", "system call table"),
//		metric.Enum("outcome", "success", "error"))
//
// Declaring is cataloguing: Families feeds the reference, the dashboards and
// the tests. Emitting cannot pick a wrong type or name, because a sample is made
// by the declaration itself:
//
//	metrics = append(metrics, callDuration.With(buckets, "openat", "success"))
//
// Names are declared without the prefix "sonde_"; it is added here, once. A
// malformed declaration panics: it is a mistake in the source, found by the first
// test that touches the package. A malformed sample never panics: it carries its
// error to the scrape, where it costs its own family.
package metric
