package sink

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	api "github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// Choice is which events somebody wants, and what of them: those that one of the allow
// filters fits, if there are any, and none of the deny filters; without the fields that
// field filters take away. They are the filters of Tetragon's API and of its export, and
// judge an event in the terms in which its line tells it. It is for one goroutine; nil
// wants everything.
type Choice struct {
	allow, deny []filter
	kinds       []api.EventType         // that the allow filters name; nil for all
	shapes      map[api.EventType]shape // of the kinds of which something is left out
	seen        seen
}

// NewChoice makes a Choice of Tetragon's filters. It returns every fault.
func NewChoice(m Machine, allow, deny []*api.Filter, fields []*api.FieldFilter) (*Choice, error) {
	c := &Choice{kinds: kindsOf(allow), seen: seen{machine: m}}
	var faults []error
	for _, list := range []struct {
		name string
		from []*api.Filter
		into *[]filter
	}{{"allow_list", allow, &c.allow}, {"deny_list", deny, &c.deny}} {
		for _, f := range list.from {
			made, err := newFilter(f)
			if err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", list.name, err))
			}
			*list.into = append(*list.into, made)
		}
	}
	shapes, err := newShapes(fields)
	if err != nil {
		faults = append(faults, err)
	}
	c.shapes = shapes
	return c, errors.Join(faults...)
}

// kindsOf returns the kinds that filters let through, nil for all.
func kindsOf(allow []*api.Filter) (all []api.EventType) {
	for _, f := range allow {
		if len(f.EventSet) == 0 {
			return nil
		}
		all = append(all, f.EventSet...)
	}
	return all
}

// Kinds returns the kinds of events that may fit, nil for all.
func (c *Choice) Kinds() []api.EventType { return c.kinds }

// Wants implements stream.Chooser. It does not allocate but for what expressions take.
func (c *Choice) Wants(ev *event.Event) bool {
	if c == nil || len(c.allow)+len(c.deny) == 0 {
		return true
	}
	c.seen.look(ev)
	fits := func(f filter) bool { return f.fits(&c.seen) }
	return (len(c.allow) == 0 || slices.ContainsFunc(c.allow, fits)) && !slices.ContainsFunc(c.deny, fits)
}

// shapeOf is what is left of an event of a kind, nil for all of it.
func (c *Choice) shapeOf(kind api.EventType) shape {
	if c == nil {
		return nil
	}
	return c.shapes[kind]
}

// filter is one filter: every member must fit.
type filter []func(*seen) bool

func (f filter) fits(s *seen) bool {
	for _, member := range f {
		if !member(s) {
			return false
		}
	}
	return true
}

// newFilter makes a filter of its members. One that is not known here is an error,
// also one of a newer API: a filter that is passed over would show too much.
func newFilter(f *api.Filter) (made filter, err error) {
	var faults []error
	f.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		build, known := members[field.Name()]
		if !known {
			faults = append(faults, fmt.Errorf("%s: not supported here", field.Name()))
			return true
		}
		member, err := build(f)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", field.Name(), err))
		}
		made = append(made, member)
		return true
	})
	if len(f.ProtoReflect().GetUnknown()) > 0 {
		faults = append(faults, errors.New("a member that this version of the API has not"))
	}
	return made, errors.Join(faults...)
}

// members make the members of a filter, by name.
var members = map[protoreflect.Name]func(*api.Filter) (func(*seen) bool, error){
	"binary_regex":           pattern((*api.Filter).GetBinaryRegex, func(s *seen) []byte { return s.binary(&s.process) }),
	"arguments_regex":        pattern((*api.Filter).GetArgumentsRegex, func(s *seen) []byte { return s.arguments(&s.process) }),
	"parent_binary_regex":    pattern((*api.Filter).GetParentBinaryRegex, func(s *seen) []byte { return s.binary(s.parent) }),
	"parent_arguments_regex": pattern((*api.Filter).GetParentArgumentsRegex, func(s *seen) []byte { return s.arguments(s.parent) }),
	"pod_regex":              pattern((*api.Filter).GetPodRegex, func(s *seen) []byte { return s.text(s.container().Pod) }),
	"namespace_regex":        pattern((*api.Filter).GetNamespaceRegex, func(s *seen) []byte { return s.text(s.namespace()) }),
	"container_id":           pattern((*api.Filter).GetContainerId, func(s *seen) []byte { return s.text(shortID(s.process.Container)) }),
	"container_name_regex":   pattern((*api.Filter).GetContainerNameRegex, func(s *seen) []byte { return s.text(s.containerName()) }),

	"namespace":    oneOf((*api.Filter).GetNamespace, (*seen).namespace), // "" is the host
	"policy_names": oneOf((*api.Filter).GetPolicyNames, (*seen).policy),
	"pid":          oneOf((*api.Filter).GetPid, func(s *seen) uint32 { return s.process.PID }),
	"event_set":    oneOf((*api.Filter).GetEventSet, (*seen).kind),
	"capabilities": capabilities,
}

// pattern makes a member of which one expression must match.
func pattern(of func(*api.Filter) []string, text func(*seen) []byte) func(*api.Filter) (func(*seen) bool, error) {
	return func(f *api.Filter) (func(*seen) bool, error) {
		var all []*regexp.Regexp
		for _, source := range of(f) {
			re, err := regexp.Compile(source)
			if err != nil {
				return nil, err
			}
			all = append(all, re)
		}
		return func(s *seen) bool {
			t := text(s)
			return slices.ContainsFunc(all, func(re *regexp.Regexp) bool { return re.Match(t) })
		}, nil
	}
}

// oneOf makes a member that fits one of the values.
func oneOf[T comparable](of func(*api.Filter) []T, value func(*seen) T) func(*api.Filter) (func(*seen) bool, error) {
	return func(f *api.Filter) (func(*seen) bool, error) {
		all := of(f)
		return func(s *seen) bool { return slices.Contains(all, value(s)) }, nil
	}
}

// capabilities makes the member of capabilities: all three sets must fit. Events that
// do not tell of capabilities do not fit.
func capabilities(f *api.Filter) (func(*seen) bool, error) {
	var (
		c      = f.GetCapabilities()
		wanted [3]func(uint64) bool
	)
	for i, set := range [...]*api.CapFilterSet{c.GetPermitted(), c.GetEffective(), c.GetInheritable()} {
		var err error
		if wanted[i], err = capabilitySet(set); err != nil {
			return nil, err
		}
	}
	return func(s *seen) bool {
		has := &s.ev.Exec.Credentials
		return became(s.ev) && s.ev.Fields&event.FieldCapabilities != 0 &&
			wanted[0](has.Permitted) && wanted[1](has.Effective) && wanted[2](has.Inheritable)
	}, nil
}

// capabilitySet judges one set of capabilities; nil fits any.
func capabilitySet(set *api.CapFilterSet) (func(has uint64) bool, error) {
	if set == nil {
		return func(uint64) bool { return true }, nil
	}
	given := 0
	set.ProtoReflect().Range(func(protoreflect.FieldDescriptor, protoreflect.Value) bool { given++; return true })
	if given != 1 {
		return nil, fmt.Errorf("a set has %d of any, all, exactly and none: write one", given)
	}
	anyOf, all, exactly, none := bits(set.Any), bits(set.All), bits(set.Exactly), bits(set.None)
	switch {
	case anyOf != 0:
		return func(has uint64) bool { return has&anyOf != 0 }, nil
	case all != 0:
		return func(has uint64) bool { return has&all == all }, nil
	case exactly != 0:
		return func(has uint64) bool { return has == exactly }, nil
	default:
		return func(has uint64) bool { return has&none == 0 }, nil
	}
}

// bits is a set of capabilities as the kernel has it.
func bits(list []api.CapabilitiesType) (set uint64) {
	for _, c := range list {
		set |= 1 << c
	}
	return set
}
