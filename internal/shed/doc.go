// Package shed keeps the sensor within its memory limit. It tells the Go run time
// how much of the limit is its own, watches how much of it is taken, and sheds load
// in stages before the OOM killer does. Counting in the kernel is never shed.
package shed
