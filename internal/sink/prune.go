package sink

// pruning leaves members out of what is written, by a shape. A member that is left out is
// written as any other and taken back when it is complete, so that who writes need not
// know.
type pruning struct {
	on    bool
	open  []shape // of the objects and lists that are open, the innermost last
	below shape   // of what the last key begins

	left int  // how many were open when a member began that is left out; 0 for none
	at   int  // where it began,
	next bool // and whether a comma was due
}

// pruned begins a member that is an object of a shape.
func (j *json) pruned(name string, s shape) {
	j.key(name)
	if s != nil {
		j.cut.on, j.cut.open, j.cut.below = true, j.cut.open[:0], s
	}
	j.open('{')
}

// judge decides about the member of a name in the innermost object.
func (j *json) judge(name string) {
	j.takeBack()
	c := &j.cut
	of := c.open[len(c.open)-1]
	if of == nil {
		c.below = nil
		return
	}
	below, kept := of[name]
	if c.below = below; !kept {
		c.left, c.at, c.next = len(c.open), len(j.b), j.next
	}
}

// takeBack removes a member that is left out, if the innermost object has just got one.
func (j *json) takeBack() {
	if c := &j.cut; c.left > 0 && c.left == len(c.open) {
		j.b, j.next, c.left = j.b[:c.at], c.next, 0
	}
}

func (j *json) enter() {
	j.cut.open = append(j.cut.open, j.cut.below)
	j.cut.below = nil
}

func (j *json) leave() {
	j.takeBack()
	j.cut.open = j.cut.open[:len(j.cut.open)-1]
	j.cut.on = len(j.cut.open) > 0
}
