// Package state is the sensor's picture of the node: which processes live, who
// talks to whom, who listens. It is made of events, one at a time, corrected now
// and then by a Survey of what the kernel really has, and read by whoever answers
// questions.
//
//	event ──► Store.Apply ──► tables ──► Connections, Endpoints, Processes (rows)
//	              Survey ──────┘  └────► Reporter (changes worth an event)
//
// Apply takes constant time and never waits for a reader for longer than it takes
// to copy one chunk of a table, some microseconds. A reader therefore sees each
// entry as it was at one instant, and all entries at nearly the same one: what is
// there during the whole of a query is in its answer exactly once.
//
// Every table is bounded. A table that is full gives up the entry that ended
// first, then the oldest one, and counts that.
//
// Times are nanoseconds of CLOCK_BOOTTIME, as events carry them.
package state
