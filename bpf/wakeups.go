package bpf

import "time"

// The kernel wakes the reader for the first event after a while of silence, and then
// leaves it alone for as long as the reader is sure to look by itself: an event waits
// a few milliseconds at most, and a million events a second cost two hundred wake-ups
// instead of a million. To be woken is dear for those who do it: it takes them several
// times what the event itself does.
const (
	// wakeSilence is how long the kernel wakes nobody after it has woken the reader.
	wakeSilence = 5 * time.Millisecond
	// readAgain is when the reader looks again after it has found something. It is longer
	// than the silence, so that what was submitted in it is found.
	readAgain = 6 * time.Millisecond
	// readIdle bounds how late a record is found whose program was interrupted between its
	// time stamp and its submission for longer than these two differ.
	readIdle = time.Second
	// maxWakeupBytes bounds how much may wait for the reader to look by itself.
	maxWakeupBytes = 256 << 10
)

// setWakeups tells the kernel's side how to wake the reader of a ring.
func (k *Kernel) setWakeups(ringBytes int) error {
	if err := k.set(settingWakeupBytes, uint64(min(ringBytes/8, maxWakeupBytes))); err != nil {
		return err
	}
	return k.set(settingSilence, uint64(wakeSilence))
}
