package sink

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	api "github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// shape is what is left of a message: its members by name, nil for one that is whole.
type shape map[string]shape

// told are the messages of the kinds of events that lines tell.
var told = map[api.EventType]protoreflect.MessageDescriptor{
	api.EventType_PROCESS_EXEC:       (*api.ProcessExec)(nil).ProtoReflect().Descriptor(),
	api.EventType_PROCESS_EXIT:       (*api.ProcessExit)(nil).ProtoReflect().Descriptor(),
	api.EventType_PROCESS_KPROBE:     (*api.ProcessKprobe)(nil).ProtoReflect().Descriptor(),
	api.EventType_PROCESS_TRACEPOINT: (*api.ProcessTracepoint)(nil).ProtoReflect().Descriptor(),
}

// newShapes says what field filters leave of each kind of which they leave something
// out: of what is included, where something is, what is not excluded.
func newShapes(filters []*api.FieldFilter) (map[api.EventType]shape, error) {
	cuts := map[api.EventType][]cut{}
	var faults []error
	for _, f := range filters {
		c, err := newCut(f)
		if err != nil {
			faults = append(faults, fmt.Errorf("field_filters: %w", err))
		}
		for kind := range told {
			if len(f.EventSet) == 0 || slices.Contains(f.EventSet, kind) != f.GetInvertEventSet().GetValue() {
				cuts[kind] = append(cuts[kind], c)
			}
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	shapes := make(map[api.EventType]shape, len(cuts))
	for kind, all := range cuts {
		shapes[kind] = newShape(told[kind], all)
	}
	return shapes, nil
}

// cut is one filter: it keeps or takes away what a mask names.
type cut struct {
	exclude bool
	fields  mask
}

func newCut(f *api.FieldFilter) (c cut, err error) {
	c.fields = mask{}
	switch f.Action {
	case api.FieldFilterAction_INCLUDE:
	case api.FieldFilterAction_EXCLUDE:
		c.exclude = true
	default:
		return c, fmt.Errorf("no such action: %v", f.Action)
	}
	for _, path := range f.GetFields().GetPaths() {
		if !knownPath(path) {
			return c, fmt.Errorf("no event has a field %q", path)
		}
		c.fields.add(strings.Split(path, "."))
	}
	return c, nil
}

// knownPath reports whether any event of the API has a field of that path.
func knownPath(path string) bool {
	payloads := (*api.GetEventsResponse)(nil).ProtoReflect().Descriptor().Oneofs().ByName("event").Fields()
	for i := range payloads.Len() {
		if has(payloads.Get(i).Message(), path) {
			return true
		}
	}
	return false
}

// has reports whether a message has a field of that path, which leads through single
// messages.
func has(m protoreflect.MessageDescriptor, path string) bool {
	name, rest, deeper := strings.Cut(path, ".")
	f := m.Fields().ByName(protoreflect.Name(name))
	if f == nil || !deeper {
		return f != nil
	}
	return single(f) && has(f.Message(), rest)
}

// single reports whether a field is one object: a message, but none of protobuf's own,
// such as a time, which lines show as one value.
func single(f protoreflect.FieldDescriptor) bool {
	return f.Message() != nil && f.Cardinality() != protoreflect.Repeated && f.Message().ParentFile().Package() != "google.protobuf"
}

// mask is a tree of the names of fields; one without branches stands for all of it.
type mask map[string]mask

// add adds a path; one that ends above others swallows them.
func (m mask) add(path []string) {
	below, there := m[path[0]]
	switch {
	case there && len(below) == 0:
	case len(path) == 1:
		m[path[0]] = mask{}
	default:
		if !there {
			below = mask{}
			m[path[0]] = below
		}
		below.add(path[1:])
	}
}

// newShape is what cuts leave of a message, nil for all of it.
func newShape(m protoreflect.MessageDescriptor, cuts []cut) shape {
	if len(cuts) == 0 {
		return nil
	}
	s := shape{}
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		if below, kept := cutsOf(f, cuts); kept && len(below) > 0 {
			s[string(f.Name())] = newShape(f.Message(), below)
		} else if kept {
			s[string(f.Name())] = nil
		}
	}
	return s
}

// cutsOf reports whether cuts of a message leave something of one of its fields, and
// returns what they say about its inside.
func cutsOf(f protoreflect.FieldDescriptor, cuts []cut) (below []cut, kept bool) {
	for _, c := range cuts {
		switch inside, named := c.fields[string(f.Name())]; {
		case len(inside) > 0 && single(f):
			below = append(below, cut{c.exclude, inside})
		case named == c.exclude:
			return nil, false
		}
	}
	return below, true
}
