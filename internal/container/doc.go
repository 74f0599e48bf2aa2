// Package container tells which container a process belongs to and what its
// runtime calls it.
//
// Three steps, each with its own ledger and none of them on the way of an event:
//
//	cgroup ids ─(index of the cgroup trees)─► Ref     Resolve: a map lookup
//	Ref ──(workers ask the runtimes' sockets)──► Meta  Lookup: a map lookup
//	Meta ──► whoever has subscribed
//
// Parse reads a cgroup path and knows nothing else. Discover finds the cgroup
// trees that this process can see and says what is missing if it cannot see the
// whole machine. A cgroup that is not in the index yet is found by its id at once, with
// a few system calls. Containers joins it all; its Run does every slow thing: it walks
// the trees, reads /proc, talks to sockets and forgets what has ended.
//
// A runtime that is not there is no error: containers then have an id and no
// name. What a runtime answers is data from outside and is cut to size.
package container
