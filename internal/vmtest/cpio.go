package vmtest

import (
	"fmt"
	"io"
)

// Modes of archive entries, as in stat(2).
const (
	modeDir     = 0o040755
	modeFile    = 0o100644
	modeProgram = 0o100755
	modeLink    = 0o120777
	modeChar    = 0o020600
)

// cpioWriter writes the archive format that the kernel unpacks as its first
// root file system ("newc": 110 bytes of hexadecimal header, name, content,
// both padded to four bytes). The first error sticks and close returns it.
type cpioWriter struct {
	w     io.Writer
	inode int
	err   error
}

// add writes one entry. A link's content is its target.
func (c *cpioWriter) add(name string, mode uint32, content []byte) {
	c.entry(name, mode, 0, 0, content)
}

// device writes a character device.
func (c *cpioWriter) device(name string, major, minor int) {
	c.entry(name, modeChar, major, minor, nil)
}

func (c *cpioWriter) entry(name string, mode uint32, major, minor int, content []byte) {
	if c.err != nil {
		return
	}
	c.inode++
	header := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		c.inode, mode, 0, 0, 1, 0, len(content), 0, 0, major, minor, len(name)+1, 0, name)
	c.write([]byte(header))
	c.write(content)
}

// write appends data and pads it to four bytes.
func (c *cpioWriter) write(data []byte) {
	if c.err != nil {
		return
	}
	if _, c.err = c.w.Write(data); c.err == nil {
		_, c.err = c.w.Write(make([]byte, -len(data)&3))
	}
}

// close writes the end of the archive.
func (c *cpioWriter) close() error {
	c.entry("TRAILER!!!", 0, 0, 0, nil)
	return c.err
}
