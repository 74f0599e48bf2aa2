package tetragon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// DefaultInfoFile is where Tetragon's clients look for its address.
const DefaultInfoFile = "/var/run/tetragon/tetragon-info.json"

// info is what the file tells; its reader asks for these keys.
type info struct {
	Address string `json:"server_address"`
	PID     int    `json:"pid"`
}

// ErrTaken is the error of a file that another process which lives has written.
var ErrTaken = errors.New("it is that of another sensor")

// publish writes the info file, unless another sensor has one: then clients of this
// one need its address. It returns what takes the file away again.
func (s *Server) publish() (withdraw func()) {
	path := s.opts.InfoFile
	if path == "" {
		return func() {}
	}
	mine := info{s.Address(), os.Getpid()}
	if err := writeInfo(path, mine); err != nil {
		s.log.Warn("clients must be told the address", "address", mine.Address, "err", err)
		return func() {}
	}
	return func() {
		if err := removeInfo(path, mine); err != nil {
			s.log.Warn("info file stays", "err", err)
		}
	}
}

// writeInfo writes the file as a whole, so that a reader never sees half of it.
func writeInfo(path string, mine info) error {
	switch there, err := readInfo(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("write info file: %w", err)
	case there.lives():
		return fmt.Errorf("write info file %s: %w, pid %d", path, ErrTaken, there.PID)
	}
	text, err := json.Marshal(mine)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err != nil {
		return fmt.Errorf("write info file: %w", err)
	}
	temp := fmt.Sprintf("%s.%d", path, mine.PID)
	if err := os.WriteFile(temp, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write info file: %w", err)
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(fmt.Errorf("write info file: %w", err), os.Remove(temp))
	}
	return nil
}

func readInfo(path string) (there info, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return info{}, err
	}
	if err := json.Unmarshal(text, &there); err != nil {
		return info{}, fmt.Errorf("read %s: %w", path, err)
	}
	return there, nil
}

// lives reports whether whoever wrote the file may still be there: either is enough,
// since its pid may be one of another namespace.
func (i info) lives() bool {
	if i.PID == os.Getpid() {
		return false
	}
	return i.PID > 0 && !errors.Is(syscall.Kill(i.PID, 0), syscall.ESRCH) || answers(i.Address)
}

// removeInfo removes the file if it is still the one that was written, and its
// directory if nothing else is in it.
func removeInfo(path string, mine info) error {
	there, err := readInfo(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case there != mine:
		return nil
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	if err := os.Remove(filepath.Dir(path)); err != nil && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, syscall.EBUSY) {
		return err
	}
	return nil
}
