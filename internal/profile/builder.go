package profile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/pprof/profile"

	"github.com/sonde-ebpf/sonde/bpf"
)

// place is an address that does not depend on the process: of the kernel, in an image,
// or, where there is no image, in a mapping by name.
type place struct {
	kernel  bool
	image   *image
	segment segment
	mapping string
	address uint64
	cause   string // no address: what the sample is of
}

// name is what a place is called.
type name struct{ function, module string }

// builder makes a pprof profile of counted stacks.
type builder struct {
	request Request
	stacks  *bpf.StackProfile
	capture *capture
	named   map[place]name

	out        *profile.Profile
	mappings   map[string]*profile.Mapping
	functions  map[name]*profile.Function
	locations  map[place]*profile.Location
	unresolved int64
}

func newBuilder(r Request, s *bpf.StackProfile, c *capture) *builder {
	return &builder{
		request: r, stacks: s, capture: c, named: map[place]name{}, out: &profile.Profile{},
		mappings: map[string]*profile.Mapping{}, functions: map[name]*profile.Function{}, locations: map[place]*profile.Location{},
	}
}

// places lists the frames of a sample, innermost first.
func (b *builder) places(s *bpf.StackSample) []place {
	all := make([]place, 0, len(s.Kernel)+len(s.User)+1)
	if s.What != "" {
		all = append(all, place{cause: "[" + s.What + "]"})
	}
	for i, address := range s.Kernel {
		all = append(all, place{kernel: true, address: calling(i, address)})
	}
	space := b.capture.spaces[s.Space]
	for i, address := range s.User {
		all = append(all, b.capture.place(space, calling(i, address)))
	}
	return all
}

// calling is the address of the call itself: frames but the first hold the address
// that it returns to, which may be another function's.
func calling(frame int, address uint64) uint64 {
	if frame > 0 {
		return address - 1
	}
	return address
}

// place finds what an address of a process belongs to.
func (c *capture) place(s *space, address uint64) place {
	if s == nil {
		return place{address: address}
	}
	m, ok := s.at(address)
	if !ok {
		return place{address: address}
	}
	if i := c.images[file{m.Device, m.Inode}]; i != nil {
		if linked, segment, ok := i.address(address - m.Start + m.Offset); ok {
			return place{image: i, segment: segment, address: linked}
		}
	}
	return place{mapping: cmp.Or(m.Path, "[anonymous]"), address: address}
}

// names looks up every place of the profile: the kernel's in one go, and those of
// each image.
func (b *builder) names(proc, sys string) {
	byImage := map[*image][]place{} // nil is the kernel
	for i := range b.stacks.Samples {
		for _, p := range b.places(&b.stacks.Samples[i]) {
			if _, known := b.named[p]; !known && (p.image != nil || p.kernel) {
				b.named[p] = name{}
				byImage[p.image] = append(byImage[p.image], p)
			}
		}
	}
	for i, places := range byImage {
		slices.SortFunc(places, func(a, b place) int { return cmp.Compare(a.address, b.address) })
		addresses := make([]uint64, len(places))
		for j, p := range places {
			addresses[j] = p.address
		}
		if i == nil {
			b.kernelNames(proc, sys, places, addresses)
			continue
		}
		for j, function := range i.names(addresses) {
			b.named[places[j]] = name{function: function}
		}
	}
}

func (b *builder) kernelNames(proc, sys string, places []place, addresses []uint64) {
	b.mapping(kernelMapping, kernelMapping).BuildID = kernelBuildID(sys)
	found, err := kernelNames(proc, addresses)
	if err != nil {
		b.out.Comments = append(b.out.Comments, err.Error())
	}
	for j, k := range found {
		b.named[places[j]] = name{k.name, k.module}
	}
}

// kernelMapping is what profiles call the kernel.
const kernelMapping = "[kernel.kallsyms]"

// build writes the profile.
func (b *builder) build() *profile.Profile {
	p := b.out
	p.TimeNanos, p.DurationNanos = b.stacks.Begin.UnixNano(), b.stacks.Duration.Nanoseconds()
	values := b.sampleTypes()
	for i := range b.stacks.Samples {
		s := &b.stacks.Samples[i]
		labels, wanted := b.labels(s)
		if !wanted {
			b.stacks.Recorded -= s.Count
			b.stacks.Filtered += s.Count
			continue
		}
		sample := &profile.Sample{Value: values(s)}
		for _, at := range withoutMachinery(b.places(s), b.named) {
			sample.Location = append(sample.Location, b.location(at))
		}
		if space := b.capture.spaces[s.Space]; space != nil {
			sample.NumLabel = map[string][]int64{"pid": {int64(s.Space.PID)}}
		}
		sample.Label = labels
		p.Sample = append(p.Sample, sample)
	}
	b.comment()
	return p
}

// sampleTypes declares what the values of a sample are and how to get them.
func (b *builder) sampleTypes() func(*bpf.StackSample) []int64 {
	p := b.out
	switch b.request.Kind {
	case Drops:
		p.SampleType = []*profile.ValueType{{Type: "drops", Unit: "count"}}
		return func(s *bpf.StackSample) []int64 { return []int64{int64(s.Count)} }
	case Slow:
		p.SampleType = []*profile.ValueType{{Type: "calls", Unit: "count"}, {Type: "time", Unit: "nanoseconds"}}
		p.DefaultSampleType = "time"
		return func(s *bpf.StackSample) []int64 { return []int64{int64(s.Count), int64(s.NS)} }
	}
	p.SampleType = []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}}
	p.DefaultSampleType, p.PeriodType, p.Period = "cpu", p.SampleType[1], int64(time.Second)/int64(b.stacks.Hz)
	return func(s *bpf.StackSample) []int64 { return []int64{int64(s.Count), int64(s.Count) * p.Period} }
}

// labels says whose a sample is, and whether it was asked for: where the kernel could
// leave out what was not, all were.
func (b *builder) labels(s *bpf.StackSample) (labels map[string][]string, wanted bool) {
	space := b.capture.spaces[s.Space]
	if space == nil {
		return nil, b.request.Container == ""
	}
	labels = map[string][]string{"process": {space.comm()}}
	if space.container != "" {
		labels["container"] = []string{space.container}
	}
	return labels, b.request.Container == "" || b.request.Container == cmp.Or(space.container, Host)
}

// machinery are the functions between an event in the kernel and the program that
// counts it: they are the innermost frames and say nothing.
var machinery = []string{"bpf_prog_", "bpf_trace_run", "__bpf_trace_", "__traceiter_", "bpf_get_stack", "bpf_trampoline_", "trace_call_bpf"}

// withoutMachinery leaves out the sensor's own frames.
func withoutMachinery(all []place, named map[place]name) []place {
	return slices.DeleteFunc(all, func(p place) bool {
		return p.kernel && slices.ContainsFunc(machinery, func(prefix string) bool {
			return strings.HasPrefix(named[p].function, prefix)
		})
	})
}

func (b *builder) location(p place) *profile.Location {
	if l, ok := b.locations[p]; ok {
		return l
	}
	l := &profile.Location{ID: uint64(len(b.out.Location) + 1), Address: p.address}
	n := b.named[p]
	switch {
	case p.cause != "":
		n.function = p.cause
	case p.kernel && n.module != "":
		l.Mapping = b.mapping("["+n.module+"]", "["+n.module+"]")
	case p.kernel:
		l.Mapping = b.mapping(kernelMapping, kernelMapping)
	case p.image != nil:
		l.Mapping = b.imageMapping(p)
	case p.mapping != "":
		l.Mapping = b.mapping(p.mapping, p.mapping)
	}
	if n.function != "" {
		l.Line = []profile.Line{{Function: b.function(n)}}
		if l.Mapping != nil {
			l.Mapping.HasFunctions = true
		}
	} else {
		b.unresolved++
	}
	b.locations[p] = l
	b.out.Location = append(b.out.Location, l)
	return l
}

func (b *builder) function(n name) *profile.Function {
	f, ok := b.functions[n]
	if !ok {
		f = &profile.Function{ID: uint64(len(b.out.Function) + 1), Name: readable(n.function), SystemName: n.function}
		b.functions[n] = f
		b.out.Function = append(b.out.Function, f)
	}
	return f
}

// mapping returns the mapping with a key of ours. One that has no more than its name
// is no file: addresses in it are as they were.
func (b *builder) mapping(key, file string) *profile.Mapping {
	m, ok := b.mappings[key]
	if !ok {
		m = &profile.Mapping{ID: uint64(len(b.out.Mapping) + 1), File: file}
		b.mappings[key] = m
		b.out.Mapping = append(b.out.Mapping, m)
	}
	return m
}

// imageMapping is a segment of a file as if it were loaded where it was linked for:
// with the build id, other tools find its functions and lines.
func (b *builder) imageMapping(p place) *profile.Mapping {
	m := b.mapping(fmt.Sprintf("%s %s %x", p.image.buildID, p.image.path, p.segment.start), p.image.path)
	m.BuildID = p.image.buildID
	m.Start, m.Limit, m.Offset = p.segment.start, p.segment.limit, p.segment.offset
	return m
}

// comment puts the ledger into the profile: what is not in it has a number.
func (b *builder) comment() {
	add := func(format string, args ...any) {
		b.out.Comments = append(b.out.Comments, fmt.Sprintf(format, args...))
	}
	add("taken %d, lost %d", b.stacks.Taken, b.stacks.Lost())
	for _, o := range outcomes {
		if n := o.of(b.stacks); n > 0 {
			add("%s %d", o.name, n)
		}
	}
	add("addresses without a function %d of %d", b.unresolved, len(b.out.Location))
	for text, n := range map[string]uint64{
		"processes gone before they could be read %d": uint64(b.capture.late), "address spaces lost %d": b.stacks.SpacesLost,
		"stacks cut short %d": b.stacks.Truncated,
	} {
		if n > 0 {
			add(text, n)
		}
	}
	slices.Sort(b.out.Comments[1:])
}
