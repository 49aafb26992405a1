package guestagent_test

import (
	"strings"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/guestapi"
)

func TestProgressWaitsForNewer(t *testing.T) {
	g := newGuest(t)
	g.cfg.Timings.Progress = 50 * time.Millisecond
	g.cfg.Timings.GrowTimeout = 400 * time.Millisecond
	g.prepared()
	// The volume never gets so large: the command lasts until its timeout.
	end := g.long(guestapi.CmdGrow, "op2/grow", guestapi.GrowArgs{SizeGiB: 1 << 30})
	if end.State != guestapi.StateFailed {
		t.Fatalf("grow ended with %+v", end)
	}
	all := received[guestapi.OperationStatus](g, guestapi.ReportProgress)
	n := 0
	for _, p := range all {
		if p.ID == "op2/grow" && strings.HasPrefix(p.Sentence, "waiting for the file system") {
			n++
		}
	}
	if n == 0 || n > 2 {
		t.Errorf("the progress of a command that lasts was reported %d times: %+v", n, all)
	}
}

func TestProgressOfAQuickCommandIsNotReported(t *testing.T) {
	g := newGuest(t)
	g.cfg.Timings.Progress = time.Hour
	g.prepared()
	g.until("the end report", func() bool { return len(received[guestapi.OperationStatus](g, guestapi.ReportEnd)) > 0 })
	if all := received[guestapi.OperationStatus](g, guestapi.ReportProgress); len(all) > 0 {
		t.Errorf("reported %+v", all)
	}
}
