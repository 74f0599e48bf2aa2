package event

// Loss is why an event did not arrive where it was wanted.
type Loss uint8

// The losses, by the stage at which they happen.
const (
	LossRing      Loss = iota // ring: no room in the ring
	LossMalformed             // decode: a record that is none
	LossFull                  // session: the queue was full
	LossShed                  // session: the queue was so full that only more important points were let in
	LossStopped               // session: still in the queue when it had to end
	LossEncode                // sink: the event cannot be put into the sink's form
	LossRate                  // sink: more than the sink may get in a minute
	LossDisk                  // sink: the disk is full
	LossWrite                 // sink: any other error of a write
	LossPeer                  // sink: the other end is absent or does not take it

	Losses = int(LossPeer) + 1
)

var losses = [Losses]struct{ stage, reason string }{
	{"ring", "ring_full"}, {"decode", "malformed"},
	{"session", "queue_full"}, {"session", "shed"}, {"session", "stopped"},
	{"sink", "encode"}, {"sink", "rate_limited"}, {"sink", "disk_full"}, {"sink", "write"}, {"sink", "peer"},
}

// Stage returns where on its way an event was lost: ring, decode, session or sink.
func (l Loss) Stage() string { return losses[l].stage }

// Reason returns why, as labels carry it.
func (l Loss) Reason() string { return losses[l].reason }

// AllLosses returns every loss in the order of its value.
func AllLosses() []Loss {
	all := make([]Loss, Losses)
	for i := range all {
		all[i] = Loss(i)
	}
	return all
}
