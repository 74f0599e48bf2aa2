package blackbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// bySignal is above which an exit code says which signal made the sensor end itself.
const bySignal = 128

// judge tells from what a run left behind how it ended, without anybody having seen it.
func judge(last record, now Run, crash string) End {
	end := End{Reason: Unknown, PID: last.Run.PID}
	switch info, err := os.Stat(crash); {
	case last.Stop != nil:
		end.Time, end.Detail = last.Stop.Time, fmt.Sprintf("exit code %d", last.Stop.Code)
		end.Reason = ofCode(last.Stop.Code)
	case err == nil && info.Size() > 0 && info.ModTime().After(last.Run.Started.Add(-time.Second)):
		end.Reason, end.Time, end.Detail = Crash, info.ModTime(), "see "+filepath.Join(filepath.Dir(crash), LastCrashFile)
	case last.Run.Boot != now.Boot:
		end.Detail = "the machine was started anew"
	case killed(last.Run, now):
		end.Reason, end.Detail = OOMKill, "inferred from the cgroup's count"
	default:
		end.Detail = "it left no record, as a signal does where nothing can be pinned"
	}
	return end
}

func ofCode(code int) string {
	switch {
	case code == 0:
		return Clean
	case code > bySignal:
		return Signal
	}
	return Error
}

// killed tells whether a cgroup counts more kills than when the run began. The
// parent counts others' too, so it is asked only where the own cgroup is gone.
func killed(last, now Run) bool {
	if last.Own.Cgroup == now.Own.Cgroup {
		return last.Own.Cgroup != "" && now.Own.Count > last.Own.Count
	}
	return last.Parent.Cgroup != "" && last.Parent.Cgroup == now.Parent.Cgroup && now.Parent.Count > last.Parent.Count
}

// keepCrash keeps what the run before left of a crash.
func keepCrash(crash string) error {
	info, err := os.Stat(crash)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("keep crash report: %w", err)
	case info.Size() == 0:
		return nil
	}
	if err := os.Rename(crash, filepath.Join(filepath.Dir(crash), LastCrashFile)); err != nil {
		return fmt.Errorf("keep crash report: %w", err)
	}
	return nil
}
