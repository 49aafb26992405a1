package guestagent_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/engine/fake"
	"github.com/trove-dbaas/trove/guestapi"
)

// TestLogInTheEnginesMemoryIsFetched both when somebody reads the log and by itself.
func TestLogInTheEnginesMemoryIsFetched(t *testing.T) {
	for name, between := range map[string]time.Duration{"when it is read": time.Hour, "by itself": 20 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			g := &logGuest{guest: newGuest(t)}
			g.cfg.Timings.KeepLogs = between
			g.prepared()
			g.client = guestapi.NewClient(g.ctl)
			g.fake.Remember("before")
			if err := g.client.SetLog(t.Context(), g.id, "general", true); err != nil {
				t.Fatal(err)
			}
			g.fake.FailNext(fake.OpKeep, errors.New("the server is busy"))
			read := func() string {
				t.Helper()
				if between == time.Hour {
					tail, err := g.client.TailLog(t.Context(), g.id, guestapi.TailLogArgs{Name: "general", Lines: 10})
					if err != nil {
						t.Fatal(err)
					}
					return string(tail.Data)
				}
				found, err := filepath.Glob(filepath.Join(g.layout.Data, "*", "general.log"))
				if err != nil || len(found) == 0 {
					return ""
				}
				data, err := os.ReadFile(found[0])
				if err != nil {
					t.Fatal(err)
				}
				return string(data)
			}
			if between == time.Hour {
				if text := read(); text != "" {
					t.Errorf("a log that cannot be fetched is %q", text)
				}
			}
			g.fake.Remember("after")
			if between == time.Hour {
				if text := read(); text != "before\nafter\n" {
					t.Errorf("the log is %q", text)
				}
				return
			}
			g.until("the log to be fetched", func() bool { return read() == "before\nafter\n" })
		})
	}
}
