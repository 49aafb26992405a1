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
	g.cfg.Timings.GrowTimeout = patience
	reports := func() (n int) {
		for _, p := range received[guestapi.OperationStatus](g, guestapi.ReportProgress) {
			if p.ID == "op2/grow" && strings.HasPrefix(p.Sentence, "waiting for the volume") {
				n++
			}
		}
		return n
	}
	// The volume is as large as asked for once it was reported that it is waited for: the command lasts until then.
	inVain := 0
	g.cfg.Grow = func() (int64, error) {
		if reports() > 0 {
			return 2 << 30, nil
		}
		inVain++
		return 1 << 30, nil
	}
	g.prepared()
	if end := g.long(guestapi.CmdGrow, "op2/grow", guestapi.GrowArgs{SizeGiB: 2}); end.State != guestapi.StateDone {
		t.Fatalf("grow ended with %+v", end)
	}
	if n := reports(); n > inVain {
		t.Errorf("%d looks that were in vain were reported %d times", inVain, n)
	}
}

func TestProgressOfAQuickCommandIsNotReported(t *testing.T) {
	g := newGuest(t)
	g.cfg.Timings.Progress = time.Hour
	g.preparedUnasked()
	if all := received[guestapi.OperationStatus](g, guestapi.ReportProgress); len(all) > 0 {
		t.Errorf("reported %+v", all)
	}
}
