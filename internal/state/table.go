package state

import "math/bits"

// chunkSlots is how many records a chunk holds: what a reader copies while the
// event path waits.
const chunkSlots = 256

// slotID names a slot; 0 is none. It stays the same while its record is held.
type slotID uint32

// phase is what a slot holds.
type phase uint8

const (
	vacant phase = iota
	live         // the thing exists
	ended        // it does not any more, and is kept for those who come late
	phases
)

// table holds records of one kind, without pointers between them, in chunks that
// are given back when they are empty. It keeps live and ended records each in the
// order in which they came to be so. A table has no lock: the Store has.
type table[R any] struct {
	chunks    []*chunk[R]
	spare     *chunk[R] // saves making a chunk anew at every other insertion
	hint      int       // chunks before it are full
	lists     [phases]list
	max       int
	evictions uint64
	drift     uint64
}

type chunk[R any] struct {
	slots [chunkSlots]slot[R]
	used  [chunkSlots / 64]uint64 // one bit a slot
	n     int
}

type slot[R any] struct {
	rec        R
	prev, next slotID // neighbours in the list of its phase
	phase      phase
	survey     uint8 // the last Survey that saw it
	unseen     uint8 // Surveys since that did not
	listed     bool  // known from a list only: see Survey.Listed
}

type list struct {
	first, last slotID
	n           int
}

// len counts the records, live and ended.
func (t *table[R]) len() int { return t.lists[live].n + t.lists[ended].n }

// at returns a slot that is in use.
func (t *table[R]) at(id slotID) *slot[R] {
	i := int(id - 1)
	return &t.chunks[i/chunkSlots].slots[i%chunkSlots]
}

// insert takes a vacant slot and makes it live. The caller has made room.
func (t *table[R]) insert() (slotID, *slot[R]) {
	c := t.roomy()
	i := 0
	for w, bitsUsed := range c.used {
		if bitsUsed != ^uint64(0) {
			i = w*64 + bits.TrailingZeros64(^bitsUsed)
			break
		}
	}
	c.used[i/64] |= 1 << (i % 64)
	c.n++
	id := slotID(t.hint*chunkSlots + i + 1)
	s := &c.slots[i]
	t.link(id, s, live)
	return id, s
}

// roomy moves the hint to the first chunk with a vacant slot, and returns that.
func (t *table[R]) roomy() *chunk[R] {
	for ; t.hint < len(t.chunks); t.hint++ {
		if c := t.chunks[t.hint]; c == nil || c.n < chunkSlots {
			break
		}
	}
	if t.hint == len(t.chunks) {
		t.chunks = append(t.chunks, nil)
	}
	if t.chunks[t.hint] == nil {
		if t.spare == nil {
			t.spare = new(chunk[R])
		}
		t.chunks[t.hint], t.spare = t.spare, nil
	}
	return t.chunks[t.hint]
}

// end moves a live record to the end of the ended ones.
func (t *table[R]) end(id slotID) {
	s := t.at(id)
	t.unlink(s)
	t.link(id, s, ended)
}

// remove makes the slot vacant. The record must not be used afterwards.
func (t *table[R]) remove(id slotID) {
	s := t.at(id)
	t.unlink(s)
	*s = slot[R]{}
	i := int(id - 1)
	c := t.chunks[i/chunkSlots]
	i, at := i%chunkSlots, i/chunkSlots
	c.used[i/64] &^= 1 << (i % 64)
	c.n--
	t.hint = min(t.hint, at)
	if c.n == 0 {
		t.chunks[at], t.spare = nil, c
	}
	for n := len(t.chunks); n > 0 && t.chunks[n-1] == nil; n-- {
		t.chunks = t.chunks[:n-1]
	}
}

// oldest returns whom to give up first, 0 if there is nobody.
func (t *table[R]) oldest() slotID {
	if id := t.lists[ended].first; id != 0 {
		return id
	}
	return t.lists[live].first
}

func (t *table[R]) link(id slotID, s *slot[R], p phase) {
	l := &t.lists[p]
	s.phase, s.prev, s.next = p, l.last, 0
	if l.last == 0 {
		l.first = id
	} else {
		t.at(l.last).next = id
	}
	l.last = id
	l.n++
}

func (t *table[R]) unlink(s *slot[R]) {
	l := &t.lists[s.phase]
	if s.prev == 0 {
		l.first = s.next
	} else {
		t.at(s.prev).next = s.next
	}
	if s.next == 0 {
		l.last = s.prev
	} else {
		t.at(s.next).prev = s.prev
	}
	l.n--
}

// each calls f for every record of chunk number i, and reports whether there is
// such a chunk.
func (t *table[R]) each(i int, f func(slotID, *slot[R])) bool {
	if i >= len(t.chunks) {
		return false
	}
	c := t.chunks[i]
	if c == nil {
		return true
	}
	for w, used := range c.used {
		for ; used != 0; used &= used - 1 {
			at := w*64 + bits.TrailingZeros64(used)
			f(slotID(i*chunkSlots+at+1), &c.slots[at])
		}
	}
	return true
}

// held returns a slot if it is in use, else nil.
func (t *table[R]) held(id slotID) *slot[R] {
	i := int(id - 1)
	if id == 0 || i/chunkSlots >= len(t.chunks) || t.chunks[i/chunkSlots] == nil {
		return nil
	}
	if s := t.at(id); s.phase != vacant {
		return s
	}
	return nil
}
