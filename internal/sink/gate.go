package sink

import (
	encoding "encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	api "github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// Gate is what the configuration of any kind of sink may say of the events that it gets:
// allow_list, deny_list and field_filters, as Tetragon's export has them, and rate_limit,
// events per minute. It makes a sink a stream.Chooser.
type Gate struct {
	*Choice

	perMinute uint64
}

// RateLimit implements stream.Chooser.
func (g *Gate) RateLimit() uint64 { return g.perMinute }

// gateConfig is a Gate as a session has it.
type gateConfig struct {
	AllowList    []encoding.RawMessage `json:"allow_list,omitempty"`
	DenyList     []encoding.RawMessage `json:"deny_list,omitempty"`
	FieldFilters []fieldFilterText     `json:"field_filters,omitempty"`
	RateLimit    uint64                `json:"rate_limit,omitempty"` // 0: all
}

// fieldFilterText is a field filter whose fields are named as in lines of JSON, with
// commas between them.
type fieldFilterText struct {
	Fields         string   `json:"fields"`
	EventSet       []string `json:"event_set,omitempty"`
	InvertEventSet bool     `json:"invert_event_set,omitempty"`
	Action         string   `json:"action,omitempty"`
}

// gateKeys are the keys of a Gate in the configuration of a sink.
var gateKeys = []string{"allow_list", "deny_list", "field_filters", "rate_limit"}

// TakeGate reads the Gate in the configuration of a sink, and returns what else there is.
func TakeGate(values map[string]any, m Machine) (g *Gate, rest map[string]any, err error) {
	own := map[string]any{}
	rest = maps.Clone(values)
	for _, key := range gateKeys {
		if v, there := values[key]; there {
			own[key] = v
			delete(rest, key)
		}
	}
	var c gateConfig
	if err := decode(own, &c); err != nil {
		return nil, nil, err
	}
	allow, allowErr := filtersOf("allow_list", c.AllowList)
	deny, denyErr := filtersOf("deny_list", c.DenyList)
	fields, fieldsErr := fieldFiltersOf(c.FieldFilters)
	if err := errors.Join(allowErr, denyErr, fieldsErr); err != nil {
		return nil, nil, err
	}
	choice, err := NewChoice(m, allow, deny, fields)
	return &Gate{choice, c.RateLimit}, rest, err
}

func filtersOf(key string, texts []encoding.RawMessage) (all []*api.Filter, err error) {
	for _, text := range texts {
		f := &api.Filter{}
		if err := unmarshal(text, f); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		all = append(all, f)
	}
	return all, nil
}

func fieldFiltersOf(texts []fieldFilterText) (all []*api.FieldFilter, err error) {
	for _, t := range texts {
		t.Fields = camel(t.Fields)
		text, err := encoding.Marshal(t)
		f := &api.FieldFilter{}
		if err == nil {
			err = unmarshal(text, f)
		}
		if err != nil {
			return nil, fmt.Errorf("field_filters: %w", err)
		}
		all = append(all, f)
	}
	return all, nil
}

// unmarshal reads what Tetragon's users write. Protobuf varies the wording of its errors
// by a space that breaks nowhere.
func unmarshal(text []byte, into proto.Message) error {
	if err := protojson.Unmarshal(text, into); err != nil {
		return errors.New(strings.ReplaceAll(err.Error(), "\u00a0", " "))
	}
	return nil
}

// camel turns exec_id into execId, the only form of a name that protobuf's JSON takes in
// a list of fields.
func camel(names string) string {
	var b strings.Builder
	parts := strings.Split(names, "_")
	for i, part := range parts {
		if i > 0 && part != "" {
			part = strings.ToUpper(part[:1]) + part[1:]
		}
		b.WriteString(part)
	}
	return b.String()
}
