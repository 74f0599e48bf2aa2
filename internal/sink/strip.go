package sink

import "github.com/sonde-ebpf/sonde/internal/event"

// strippable are the fields of a line that an event has itself, and what of it tells them.
var strippable = []struct {
	object, name string
	fields       event.Fields
	texts        []event.Text
}{
	{"process", "pid", event.FieldGroupID, nil},
	{"process", "tid", event.FieldThreadID, nil},
	{"process", "start_time", event.FieldGroupStart | event.FieldThreadStart, nil},
	{"process", "binary", 0, []event.Text{event.TextPath, event.TextExe}},
	{"process", "arguments", 0, []event.Text{event.TextArgs}},
	{"process", "cwd", event.FieldCwd, []event.Text{event.TextCwd}},
	{"process", "docker", event.FieldContainer, []event.Text{event.TextContainer}},
	{"process", "cap", event.FieldCapabilities, nil},
	{"process", "ns", event.FieldNamespaces, nil},
	{"process", "process_credentials", event.FieldCredentials, nil},
	{"process", "environment_variables", event.FieldEnvironment, []event.Text{event.TextEnv}},
	{"parent", "pid", event.FieldParentGroupID, nil},
}

// Strip takes from an event what the field filters leave out, for sinks whose form is not
// that of lines. What only lines tell has no counterpart.
func (c *Choice) Strip(ev *event.Event) {
	left := c.shapeOf(KindOf(ev.Point))
	if left == nil {
		return
	}
	for i := range strippable {
		s := &strippable[i]
		object, kept := left[s.object]
		if kept && object != nil {
			_, kept = object[s.name]
		}
		if kept {
			continue
		}
		ev.Fields &^= s.fields
		if ev.Point != event.ProcessExec { // the texts of others are not of their process
			continue
		}
		for _, text := range s.texts {
			ev.Texts[text] = event.Span{}
		}
	}
}
