package collectors

import (
	"fmt"

	promprocfs "github.com/prometheus/procfs"
)

// SelfStatus reads the status file of this process.
type SelfStatus struct {
	fs promprocfs.FS
}

// NewSelfStatus returns a reader of the procfs mounted at path.
func NewSelfStatus(path string) (SelfStatus, error) {
	fs, err := promprocfs.NewFS(path)
	if err != nil {
		return SelfStatus{}, fmt.Errorf("open procfs: %w", err)
	}
	return SelfStatus{fs: fs}, nil
}

// Mapped implements MappedSource: resident pages of files and of shared memory.
func (s SelfStatus) Mapped() (uint64, error) {
	self, err := s.fs.Self()
	if err != nil {
		return 0, fmt.Errorf("find own process: %w", err)
	}
	status, err := self.NewStatus()
	if err != nil {
		return 0, fmt.Errorf("read own status: %w", err)
	}
	return status.RssFile + status.RssShmem, nil
}
