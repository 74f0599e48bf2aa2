package shed

// Levels of shedding; what each does is registered with the Governor.
const (
	Normal   = iota
	Trim     // caches and queues shrink
	Reduce   // optional points and details stop
	Counters // a heap dump, then nothing but counters
	Levels
)

// Rise is the share of the limit at which each level begins. A level ends when the
// share has been below its beginning by Slack for Patience ticks.
var Rise = [Levels]float64{Trim: 0.80, Reduce: 0.88, Counters: 0.94}

// The hysteresis.
const (
	Slack    = 0.05
	Patience = 10 // ticks
)

// ladder decides the level from one share after the other: up at once, and as far
// as it must; down one level at a time, when it has been calm for long enough.
type ladder struct {
	level int
	calm  int // ticks
}

// step returns the level for the next tick.
func (l *ladder) step(share float64) int {
	for level := Levels - 1; level > l.level; level-- {
		if share >= Rise[level] {
			l.level, l.calm = level, 0
			return level
		}
	}
	if l.level == Normal || share >= Rise[l.level]-Slack {
		l.calm = 0
		return l.level
	}
	if l.calm++; l.calm == Patience {
		l.level, l.calm = l.level-1, 0
	}
	return l.level
}
