//go:build crashpoints

package workflow

import (
	"errors"
	"os"
	"strings"
	"syscall"

	trove "github.com/trove-dbaas/trove"
)

// crashFile names the variable that holds the path of the file which says where the process shall die ("crash instance.create/volume/after") and
// which step shall fail for good ("fail instance.create/ready"), one a line. It is read at every boundary, so that a test can say it while the
// process runs.
const crashFile = "TROVE_CRASH_FILE"

// crashPoint kills the process, as the kernel would, if that is asked for here: "before" a step's function is called, "after" it returned and nothing
// was written yet, "waited" when a step that waits was released, "closed" after the last commit. Undoing, the names begin with "undo-".
func crashPoint(kind, step string, undoing bool, where string) {
	if undoing {
		where = "undo-" + where
	}
	if !asked("crash " + kind + "/" + step + "/" + where) {
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// failPoint returns an error that nothing can mend if the step shall fail.
func failPoint(kind, step string) error {
	if !asked("fail " + kind + "/" + step) {
		return nil
	}
	return trove.Permanent(errors.New("the test wants it so"))
}

func asked(line string) bool {
	data, err := os.ReadFile(os.Getenv(crashFile))
	if err != nil {
		return false
	}
	for l := range strings.Lines(string(data)) {
		if strings.TrimSpace(l) == line {
			return true
		}
	}
	return false
}
