package tetragon

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	api "github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// choice is what a client wants of the events: those that one of the allow filters
// fits, if there are any, and none of the deny filters; and parts of each.
type choice struct {
	allow, deny []filter
	kinds       []api.EventType // that the allow filters name; nil for all
	fields      []fieldFilter
}

func newChoice(r *api.GetEventsRequest) (*choice, error) {
	if r.AggregationOptions != nil {
		return nil, errors.New("aggregation_options: events are not aggregated here; the sensor's metrics are")
	}
	c := &choice{}
	var faults []error
	for _, list := range []struct {
		name string
		from []*api.Filter
		into *[]filter
	}{{"allow_list", r.AllowList, &c.allow}, {"deny_list", r.DenyList, &c.deny}} {
		for _, f := range list.from {
			made, err := newFilter(f)
			if err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", list.name, err))
			}
			*list.into = append(*list.into, made)
		}
	}
	for _, f := range r.FieldFilters {
		made, err := newFieldFilter(f)
		if err != nil {
			faults = append(faults, fmt.Errorf("field_filters: %w", err))
		}
		c.fields = append(c.fields, made)
	}
	c.kinds = kindsOf(r.AllowList)
	if len(faults) == 0 && len(c.points()) == 0 {
		faults = append(faults, fmt.Errorf("allow_list: event_set %v: this sensor has none of those", c.kinds))
	}
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

func (c *choice) wants(r *api.GetEventsResponse) bool {
	ev := actorsOf(r)
	fits := func(f filter) bool { return f.fits(&ev) }
	return (len(c.allow) == 0 || slices.ContainsFunc(c.allow, fits)) && !slices.ContainsFunc(c.deny, fits)
}

// told is an event as filters see it.
type told struct {
	kind            api.EventType
	process, parent *api.Process // never nil
	policy          string
}

func actorsOf(r *api.GetEventsResponse) told {
	t := told{kind: r.EventType()}
	switch ev := r.Event.(type) {
	case *api.GetEventsResponse_ProcessExec:
		t.process, t.parent = ev.ProcessExec.Process, ev.ProcessExec.Parent
	case *api.GetEventsResponse_ProcessExit:
		t.process, t.parent = ev.ProcessExit.Process, ev.ProcessExit.Parent
	case *api.GetEventsResponse_ProcessKprobe:
		t.process, t.parent, t.policy = ev.ProcessKprobe.Process, ev.ProcessKprobe.Parent, ev.ProcessKprobe.PolicyName
	case *api.GetEventsResponse_ProcessTracepoint:
		t.process, t.parent, t.policy = ev.ProcessTracepoint.Process, ev.ProcessTracepoint.Parent, ev.ProcessTracepoint.PolicyName
	}
	return t
}

// filter is one filter: every member must fit.
type filter []func(*told) bool

func (f filter) fits(ev *told) bool {
	for _, member := range f {
		if !member(ev) {
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
var members = map[protoreflect.Name]func(*api.Filter) (func(*told) bool, error){
	"binary_regex":           pattern((*api.Filter).GetBinaryRegex, func(ev *told) string { return ev.process.GetBinary() }),
	"arguments_regex":        pattern((*api.Filter).GetArgumentsRegex, func(ev *told) string { return ev.process.GetArguments() }),
	"parent_binary_regex":    pattern((*api.Filter).GetParentBinaryRegex, func(ev *told) string { return ev.parent.GetBinary() }),
	"parent_arguments_regex": pattern((*api.Filter).GetParentArgumentsRegex, func(ev *told) string { return ev.parent.GetArguments() }),
	"pod_regex":              pattern((*api.Filter).GetPodRegex, func(ev *told) string { return ev.process.GetPod().GetName() }),
	"namespace_regex":        pattern((*api.Filter).GetNamespaceRegex, namespace),
	"container_id":           pattern((*api.Filter).GetContainerId, func(ev *told) string { return ev.process.GetDocker() }),
	"container_name_regex":   pattern((*api.Filter).GetContainerNameRegex, func(ev *told) string { return ev.process.GetPod().GetContainer().GetName() }),

	"namespace":    oneOf((*api.Filter).GetNamespace, namespace), // "" is the host
	"policy_names": oneOf((*api.Filter).GetPolicyNames, func(ev *told) string { return ev.policy }),
	"pid":          oneOf((*api.Filter).GetPid, func(ev *told) uint32 { return ev.process.GetPid().GetValue() }),
	"event_set":    oneOf((*api.Filter).GetEventSet, func(ev *told) api.EventType { return ev.kind }),
	"capabilities": capabilities,
}

func namespace(ev *told) string { return ev.process.GetPod().GetNamespace() }

// pattern makes a member of which one expression must match.
func pattern(of func(*api.Filter) []string, text func(*told) string) func(*api.Filter) (func(*told) bool, error) {
	return func(f *api.Filter) (func(*told) bool, error) {
		var all []*regexp.Regexp
		for _, source := range of(f) {
			re, err := regexp.Compile(source)
			if err != nil {
				return nil, err
			}
			all = append(all, re)
		}
		return func(ev *told) bool {
			t := text(ev)
			return slices.ContainsFunc(all, func(re *regexp.Regexp) bool { return re.MatchString(t) })
		}, nil
	}
}

// oneOf makes a member that fits one of the values.
func oneOf[T comparable](of func(*api.Filter) []T, value func(*told) T) func(*api.Filter) (func(*told) bool, error) {
	return func(f *api.Filter) (func(*told) bool, error) {
		all := of(f)
		return func(ev *told) bool { return slices.Contains(all, value(ev)) }, nil
	}
}

// capabilities makes the member of capabilities: all three sets must fit. Events that
// do not tell of capabilities do not fit.
func capabilities(f *api.Filter) (func(*told) bool, error) {
	c := f.GetCapabilities()
	for _, set := range []*api.CapFilterSet{c.GetPermitted(), c.GetEffective(), c.GetInheritable()} {
		if set == nil {
			continue
		}
		given := 0
		set.ProtoReflect().Range(func(protoreflect.FieldDescriptor, protoreflect.Value) bool { given++; return true })
		if given != 1 {
			return nil, fmt.Errorf("a set has %d of any, all, exactly and none: write one", given)
		}
	}
	return func(ev *told) bool {
		has := ev.process.GetCap()
		return has != nil && fitsSet(c.GetPermitted(), has.GetPermitted()) && fitsSet(c.GetEffective(), has.GetEffective()) &&
			fitsSet(c.GetInheritable(), has.GetInheritable())
	}, nil
}

func fitsSet(want *api.CapFilterSet, has []api.CapabilitiesType) bool {
	in := func(c api.CapabilitiesType) bool { return slices.Contains(has, c) }
	all := func(list []api.CapabilitiesType) bool {
		return !slices.ContainsFunc(list, func(c api.CapabilitiesType) bool { return !in(c) })
	}
	switch {
	case len(want.GetAny()) > 0:
		return slices.ContainsFunc(want.Any, in)
	case len(want.GetAll()) > 0:
		return all(want.All)
	case len(want.GetExactly()) > 0:
		return all(want.Exactly) && !slices.ContainsFunc(has, func(c api.CapabilitiesType) bool { return !slices.Contains(want.Exactly, c) })
	default:
		return !slices.ContainsFunc(want.GetNone(), in)
	}
}
