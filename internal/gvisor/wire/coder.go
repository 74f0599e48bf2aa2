package wire

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// MaxList bounds the strings of a repeated field (arguments, environment) that
// are decoded; Cut counts those beyond. A datagram has room for half a million
// empty ones, and a slice header is ten times as large as one of those.
const MaxList = 8192

const (
	maxNumber = 22 // of the fields we know; those above are skipped
	maxDepth  = 4  // a message, its pipe's writer, the writer's context, its credentials
)

// record is what has fields: a message or a part of one.
type record interface {
	// fields goes over all fields in the order of their numbers.
	fields(*coder)
}

// coder carries one record to bytes or back, field by field. Decoding, it leaves
// no field of the record as it was: what is absent becomes zero.
type coder struct {
	encoding bool
	out      []byte // encoding: what has been written

	in    []byte // decoding: the bytes of the record
	found [maxNumber + 1]value
	used  protowire.Number // found is zero from here on
	cut   int              // strings beyond MaxList, parts included
	err   error
	below *coder // for the parts of the record
}

// value is where the field of a number is in the bytes of a record.
type value struct {
	n      uint64 // the last one of type VarintType
	varint bool   // there is one
	count  uint32 // how many of type BytesType there are
	first  uint32 // where the tag of the first is
	start  uint32 // where the content of the last begins and ends
	end    uint32
}

// newCoder returns a coder to decode with, as often as one likes.
func newCoder() *coder {
	var c *coder
	for range maxDepth {
		c = &coder{below: c}
	}
	return c
}

// encode appends r to dst.
func (c *coder) encode(dst []byte, r record) []byte {
	c.encoding, c.out = true, dst
	r.fields(c)
	return c.out
}

// decode fills r from the bytes of a record.
func (c *coder) decode(in []byte, r record) error {
	c.in, c.cut, c.err = in, 0, nil
	clear(c.found[:c.used])
	c.used = 0
	if c.err = c.index(); c.err == nil {
		r.fields(c)
	}
	return c.err
}

// index notes where each field is. It goes over all bytes, so that a record that
// passes is well-formed to its end.
func (c *coder) index() error {
	for at := 0; at < len(c.in); {
		number, wire, n := protowire.ConsumeTag(c.in[at:])
		if n < 0 {
			return fmt.Errorf("%w: byte %d: %w", ErrPayload, at, protowire.ParseError(n))
		}
		size := protowire.ConsumeFieldValue(number, wire, c.in[at+n:])
		if size < 0 {
			return fmt.Errorf("%w: field %d: %w", ErrPayload, number, protowire.ParseError(size))
		}
		if number <= maxNumber {
			c.used = max(c.used, number+1)
			c.note(&c.found[number], wire, at, at+n)
		}
		at += n + size
	}
	return nil
}

// note notes one occurrence of a field, its tag at tag and its value at start.
// Where a field occurs with a wire type that is not its own it counts as unknown.
func (c *coder) note(v *value, wire protowire.Type, tag, start int) {
	switch wire {
	case protowire.VarintType:
		v.n, _ = protowire.ConsumeVarint(c.in[start:])
		v.varint = true
	case protowire.BytesType:
		content, n := protowire.ConsumeBytes(c.in[start:])
		if v.count == 0 {
			v.first = uint32(tag)
		}
		v.count++
		v.start, v.end = uint32(start+n-len(content)), uint32(start+n)
	}
}

// each calls do with every occurrence of a field of type BytesType, in order.
func (c *coder) each(number protowire.Number, do func([]byte)) {
	v := &c.found[number]
	for at, left := int(v.first), v.count; left > 0; {
		found, wire, n := protowire.ConsumeTag(c.in[at:])
		if found == number && wire == protowire.BytesType {
			content, _ := protowire.ConsumeBytes(c.in[at+n:])
			do(content)
			left--
		}
		at += n + protowire.ConsumeFieldValue(found, wire, c.in[at+n:])
	}
}

// integer carries a field of type int32, int64, uint32 or uint64. A negative
// int32 is written as wide as an int64, as protobuf has it.
func integer[T int32 | int64 | uint32 | uint64](c *coder, number protowire.Number, v *T) {
	switch {
	case !c.encoding:
		*v = T(c.found[number].n)
	case *v != 0:
		c.out = protowire.AppendTag(c.out, number, protowire.VarintType)
		c.out = protowire.AppendVarint(c.out, uint64(int64(*v)))
	}
}

// boolean carries a field of type bool.
func boolean(c *coder, number protowire.Number, v *bool) {
	n := protowire.EncodeBool(*v)
	integer(c, number, &n)
	*v = protowire.DecodeBool(n)
}

// text carries a field of type string or bytes. An empty one is nil.
func text(c *coder, number protowire.Number, v *[]byte) {
	switch {
	case !c.encoding:
		*v = nil
		if found := &c.found[number]; found.start < found.end {
			*v = c.in[found.start:found.end:found.end]
		}
	case len(*v) > 0:
		c.out = protowire.AppendTag(c.out, number, protowire.BytesType)
		c.out = protowire.AppendBytes(c.out, *v)
	}
}

// list carries a repeated field of type string.
func list(c *coder, number protowire.Number, v *[][]byte) {
	if c.encoding {
		for _, s := range *v {
			c.out = protowire.AppendTag(c.out, number, protowire.BytesType)
			c.out = protowire.AppendBytes(c.out, s)
		}
		return
	}
	all := (*v)[:0]
	c.each(number, func(s []byte) {
		if len(all) == MaxList {
			c.cut++
			return
		}
		all = append(all, s)
	})
	*v = all
}

// part carries a field that is a record itself. Whether it is present is a value
// of its own: an empty one is written too.
func part(c *coder, number protowire.Number, present *bool, r record) {
	switch {
	case !c.encoding:
		*present = c.found[number].count > 0
		c.decodePart(number, r)
	case *present:
		c.out = protowire.AppendTag(c.out, number, protowire.BytesType)
		start := len(c.out)
		r.fields(c)
		c.prefixLength(start)
	}
}

// decodePart decodes what occurrences there are into one record; several are
// merged, as protobuf has it.
func (c *coder) decodePart(number protowire.Number, r record) {
	found := &c.found[number]
	in := c.in[found.start:found.end]
	if found.count > 1 {
		in = nil
		c.each(number, func(b []byte) { in = append(in, b...) })
	}
	err := c.below.decode(in, r)
	c.cut += c.below.cut
	if c.err == nil && err != nil {
		c.err = fmt.Errorf("field %d: %w", number, err)
	}
}

// prefixLength puts the length of what was written from start on before it.
func (c *coder) prefixLength(start int) {
	n := len(c.out) - start
	size := protowire.SizeVarint(uint64(n))
	c.out = append(c.out, make([]byte, size)...)
	copy(c.out[start+size:], c.out[start:start+n])
	protowire.AppendVarint(c.out[:start], uint64(n))
}
