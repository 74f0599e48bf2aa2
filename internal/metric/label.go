package metric

import (
	"slices"
	"strings"
)

// MaxLabels bounds the labels of one family. A sample keeps its label values in
// itself, so that emitting one costs a single allocation.
const MaxLabels = 5

// Other is the value of a label whose series budget is used up.
const Other = "other"

// Label is one dimension of a family. Every label has a bound, in words for
// readers and, for an enumeration, in values.
type Label struct {
	Name string
	// Bound says what limits the number of values, such as "the maps of the sensor".
	Bound string
	// Values lists every value of an enumeration; nil for other bounds.
	Values []string
	// Open says that the values come from what is observed: the series of the family
	// are bounded by a Budget.
	Open bool
}

// Enum declares a label with a fixed list of values.
func Enum(name string, values ...string) Label {
	return Label{Name: name, Bound: strings.Join(values, ", "), Values: values}
}

// Bounded declares a label whose values are settled once the sensor has started:
// they are in its source or its configuration, and bound says where.
func Bounded(name, bound string) Label {
	return Label{Name: name, Bound: bound}
}

// Open declares a label whose values come from what is observed. Its family needs a
// Budget, above which they are "other"; bound says what they are.
func Open(name, bound string) Label {
	return Label{Name: name, Bound: bound, Open: true}
}

// has reports whether the label allows the value. Only enumerations refuse any.
func (l Label) has(value string) bool {
	if l.Values == nil {
		return true
	}
	return slices.Contains(l.Values, value)
}
