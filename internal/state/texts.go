package state

// textID names a text that is kept once for all who have it; 0 is "".
type textID uint32

// textOverhead is what a text costs besides its bytes: its entry here, its key in
// the index, and the headers of both.
const textOverhead = 64

// texts keeps texts that many records share, such as the path of a program, and
// forgets one when its last user does. Its size in bytes is bounded.
type texts struct {
	index   map[string]textID
	entries []textEntry // entries[id-1]
	vacant  []textID
	bytes   int
	max     int
}

type textEntry struct {
	text  string
	users uint32
}

func newTexts(maxBytes int) texts {
	return texts{index: map[string]textID{}, max: maxBytes}
}

// put returns the text's id and counts one more user. ok is false where there is
// no room for it.
func (t *texts) put(text []byte) (id textID, ok bool) {
	if len(text) == 0 {
		return 0, true
	}
	if id, known := t.index[string(text)]; known {
		t.entries[id-1].users++
		return id, true
	}
	if t.bytes+len(text)+textOverhead > t.max {
		return 0, false
	}
	if n := len(t.vacant); n > 0 {
		id, t.vacant = t.vacant[n-1], t.vacant[:n-1]
	} else {
		t.entries = append(t.entries, textEntry{})
		id = textID(len(t.entries))
	}
	copied := string(text)
	t.entries[id-1] = textEntry{copied, 1}
	t.index[copied] = id
	t.bytes += len(copied) + textOverhead
	return id, true
}

// share counts one more user of a text that is held already.
func (t *texts) share(id textID) textID {
	if id != 0 {
		t.entries[id-1].users++
	}
	return id
}

// drop counts one user less.
func (t *texts) drop(id textID) {
	if id == 0 {
		return
	}
	e := &t.entries[id-1]
	if e.users--; e.users > 0 {
		return
	}
	delete(t.index, e.text)
	t.bytes -= len(e.text) + textOverhead
	*e = textEntry{}
	t.vacant = append(t.vacant, id)
}

// get returns the text. The string stays valid whatever happens here later.
func (t *texts) get(id textID) string {
	if id == 0 {
		return ""
	}
	return t.entries[id-1].text
}
