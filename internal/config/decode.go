package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	// yaml/v3 of go.yaml.in is the fork that the YAML organisation maintains;
	// its Node keeps the line of every value, and Prometheus' own libraries
	// bring it along anyway.
	"go.yaml.in/yaml/v3"
)

// maxFile bounds a configuration text, in bytes. A few KiB are usual.
const maxFile = 1 << 20

// Fault is one thing wrong with a configuration, in one sentence: where it is,
// what is there, and what to write instead.
type Fault struct {
	Source string // file, flag or environment variable
	Line   int    // 0 if the source has no lines
	Key    string // dotted path, "" for the text as a whole
	Text   string
}

func (f *Fault) Error() string {
	var b strings.Builder
	b.WriteString(f.Source)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d", f.Line)
	}
	if f.Key != "" {
		b.WriteString(": " + f.Key)
	}
	b.WriteString(" " + f.Text)
	return b.String()
}

// Read lays a YAML (or JSON) text over what is there. It returns every fault at
// once, joined; the Config must not be used after an error.
func (c *Config) Read(source string, text []byte) error {
	return decodeText(&decoder{source: source, origin: OriginFile, origins: c.origins}, text, c.schema())
}

// decodeText decodes one text into fields; every fault is returned.
func decodeText(d *decoder, text []byte, fields []field) error {
	source := d.source
	if len(text) > maxFile {
		return &Fault{Source: source, Text: fmt.Sprintf("is larger than %s; a configuration is much smaller", Bytes(maxFile))}
	}
	documents := yaml.NewDecoder(bytes.NewReader(text))
	var root, second yaml.Node
	switch err := documents.Decode(&root); {
	case errors.Is(err, io.EOF):
		return nil // empty, or comments only
	case err != nil:
		return &Fault{Source: source, Text: "is not YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")}
	}
	if err := documents.Decode(&second); !errors.Is(err, io.EOF) {
		return &Fault{Source: source, Line: second.Line, Text: "holds more than one YAML document; keep the first"}
	}
	d.mapping("", root.Content[0], fields)
	return errors.Join(d.faults...)
}

// Set lays the value of a flag or an environment variable over a key. source
// names it in the fault ("--limits.ring-bytes").
func (c *Config) Set(key, text, source string, origin Origin) error {
	d := &decoder{source: source, origin: origin, origins: c.origins}
	field, ok := find(c.schema(), key)
	if !ok || field.set == nil {
		return fmt.Errorf("set configuration key %s from %s: no such key", key, source)
	}
	field.set(d, "", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text})
	if len(d.faults) == 0 {
		c.origins[key] = origin
	}
	return errors.Join(d.faults...)
}

// field is one key: a mapping with fields below it, or a value with set and get.
type field struct {
	name   string
	fields []field
	set    func(d *decoder, key string, n *yaml.Node)
	get    func() any
}

// find follows a dotted key.
func find(fields []field, key string) (field, bool) {
	name, rest, more := strings.Cut(key, ".")
	i := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
	switch {
	case i < 0:
		return field{}, false
	case more:
		return find(fields[i].fields, rest)
	}
	return fields[i], true
}

// decoder collects faults; it stops at none.
type decoder struct {
	source  string
	origin  Origin
	origins map[string]Origin
	faults  []error
}

func (d *decoder) fault(key string, n *yaml.Node, format string, args ...any) {
	d.faults = append(d.faults, &Fault{Source: d.source, Line: n.Line, Key: key, Text: fmt.Sprintf(format, args...)})
}

// mapping decodes the keys of n that fields name and faults all others.
func (d *decoder) mapping(key string, n *yaml.Node, fields []field) {
	for name, value := range d.pairs(key, n) {
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == name.Value })
		path := join(key, name.Value)
		switch {
		case i < 0:
			d.fault(path, name, "is not a key here; %s", suggest(name.Value, fields))
		case fields[i].set == nil:
			d.mapping(path, value, fields[i].fields)
		case value.Tag == "!!null":
			d.fault(path, name, "has no value; write one or remove the key")
		default:
			before := len(d.faults)
			fields[i].set(d, path, value)
			if len(d.faults) == before {
				d.origins[path] = d.origin
			}
		}
	}
}

// pairs yields the keys and values of a mapping, faulting what is not one, keys
// given twice, and aliases. No value at all is an empty mapping.
func (d *decoder) pairs(key string, n *yaml.Node) func(yield func(k, v *yaml.Node) bool) {
	return func(yield func(k, v *yaml.Node) bool) {
		if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
			return
		}
		if n.Kind != yaml.MappingNode {
			d.fault(key, n, "is %s; write keys and values", describe(n))
			return
		}
		seen := map[string]bool{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			k, v := n.Content[i], n.Content[i+1]
			switch {
			case k.Kind != yaml.ScalarNode || k.Tag == "!!merge":
				d.fault(key, k, "has a key that is not a plain name; write a name")
			case v.Kind == yaml.AliasNode:
				d.fault(join(key, k.Value), v, "is an alias; write the value itself")
			case seen[k.Value]:
				d.fault(join(key, k.Value), k, "is given twice; keep one")
			default:
				seen[k.Value] = true
				if !yield(k, v) {
					return
				}
			}
		}
	}
}

// items yields the elements of a list, faulting what is not one.
func (d *decoder) items(key string, n *yaml.Node) func(yield func(i int, item *yaml.Node) bool) {
	return func(yield func(i int, item *yaml.Node) bool) {
		if n.Kind != yaml.SequenceNode {
			d.fault(key, n, "is %s; write a list", describe(n))
			return
		}
		for i, item := range n.Content {
			if item.Kind == yaml.AliasNode {
				d.fault(key, item, "holds an alias; write the value itself")
			} else if !yield(i, item) {
				return
			}
		}
	}
}

// scalar returns the text of a plain value.
func (d *decoder) scalar(key string, n *yaml.Node) (text string, ok bool) {
	if n.Kind != yaml.ScalarNode {
		d.fault(key, n, "is %s; write one value", describe(n))
		return "", false
	}
	return n.Value, true
}

// describe says what a node is, values quoted and cut.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	return quote(n.Value)
}

func quote(text string) string {
	const longest = 80
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "…"
	}
	return fmt.Sprintf("%q", text)
}

func join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}

// suggest names the key that was probably meant, else all there are.
func suggest(name string, fields []field) string {
	var all []string
	for _, f := range fields {
		if fold(f.name) == fold(name) {
			return "did you mean " + f.name + "?"
		}
		all = append(all, f.name)
	}
	return "known here: " + strings.Join(all, ", ")
}

func fold(name string) string {
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(name))
}
