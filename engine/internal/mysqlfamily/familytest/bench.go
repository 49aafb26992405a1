package familytest

import (
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/enginetest"
)

// FirstStart measures what a create waits for inside the guest: from Prepare, over a copy of a data directory, to the first login of a new user.
func (c Case) FirstStart(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		s := c.setup(b)
		c.fill(b, s.Layout)
		p := engine.Preparation{
			InstanceID: "3b0b86f0-2f4f-4b0c-9a43-0b7b8d6f6a55", ServerID: 7, Settings: engine.Settings{RAM: 512, VCPUs: 1},
			Databases: []trove.Database{{Name: "db"}}, Users: []trove.User{{Name: "alice", Password: "pw-1", Databases: []string{"db"}}},
		}
		b.StartTimer()
		must(b, s.Engine.Prepare(b.Context(), s.Layout, p))
		srv := enginetest.Start(b, s)
		db := client(b, s.Layout, "alice", "pw-1", "db")
		must(b, db.PingContext(b.Context()))
		b.StopTimer()
		must(b, db.Close())
		srv.Stop()
		b.StartTimer()
	}
}
