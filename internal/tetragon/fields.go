package tetragon

import (
	"fmt"
	"slices"
	"strings"

	api "github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// fieldFilter keeps or removes parts of events of some kinds.
type fieldFilter struct {
	kinds   []api.EventType // empty for all
	invert  bool            // all but those
	exclude bool
	fields  mask
}

// mask is a tree of the names of fields; one without branches stands for all of it.
type mask map[protoreflect.Name]mask

func newFieldFilter(f *api.FieldFilter) (made fieldFilter, err error) {
	made = fieldFilter{kinds: f.EventSet, invert: f.GetInvertEventSet().GetValue(), fields: mask{}}
	switch f.Action {
	case api.FieldFilterAction_INCLUDE:
	case api.FieldFilterAction_EXCLUDE:
		made.exclude = true
	default:
		return made, fmt.Errorf("no such action: %v", f.Action)
	}
	for _, path := range f.GetFields().GetPaths() {
		if !slices.ContainsFunc(payloads(), func(m protoreflect.MessageDescriptor) bool { return has(m, path) }) {
			return made, fmt.Errorf("no event has a field %q", path)
		}
		made.fields.add(strings.Split(path, "."))
	}
	return made, nil
}

// payloads are the messages that hold the events.
func payloads() (all []protoreflect.MessageDescriptor) {
	fields := oneofEvent().Fields()
	for i := range fields.Len() {
		all = append(all, fields.Get(i).Message())
	}
	return all
}

func oneofEvent() protoreflect.OneofDescriptor {
	return (*api.GetEventsResponse)(nil).ProtoReflect().Descriptor().Oneofs().ByName("event")
}

// has reports whether a message has a field of that path, which leads through single
// messages.
func has(m protoreflect.MessageDescriptor, path string) bool {
	name, rest, deeper := strings.Cut(path, ".")
	f := m.Fields().ByName(protoreflect.Name(name))
	if f == nil || !deeper {
		return f != nil
	}
	return f.Message() != nil && f.Cardinality() != protoreflect.Repeated && has(f.Message(), rest)
}

// add adds a path; one that ends above others swallows them.
func (m mask) add(path []string) {
	name := protoreflect.Name(path[0])
	below, there := m[name]
	switch {
	case there && len(below) == 0:
	case len(path) == 1:
		m[name] = mask{}
	default:
		if !there {
			below = mask{}
			m[name] = below
		}
		below.add(path[1:])
	}
}

// applies reports whether the filter is one for events of a kind.
func (f *fieldFilter) applies(kind api.EventType) bool {
	return len(f.kinds) == 0 || slices.Contains(f.kinds, kind) != f.invert
}

// cut removes what the client does not want of an event: first everything but what
// is included, where something is, then what is excluded.
func (c *choice) cut(r *api.GetEventsResponse) {
	m := r.ProtoReflect()
	which := m.WhichOneof(oneofEvent())
	if which == nil {
		return
	}
	payload, kind := m.Get(which).Message(), r.EventType()
	for _, exclude := range []bool{false, true} {
		for i := range c.fields {
			if f := &c.fields[i]; f.exclude == exclude && f.applies(kind) {
				f.fields.prune(payload, exclude)
			}
		}
	}
}

// prune removes what the mask names, or everything else.
func (m mask) prune(of protoreflect.Message, exclude bool) {
	of.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch below, named := m[f.Name()]; {
		case named && len(below) > 0 && f.Message() != nil && f.Cardinality() != protoreflect.Repeated:
			below.prune(v.Message(), exclude)
		case named == exclude:
			of.Clear(f)
		}
		return true
	})
}
