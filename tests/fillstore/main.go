// Command fillstore puts many instances into the store of a deployment that does not run, for measurements of lists. They are marked as failed
// creates, so that nothing tries to bring them to life.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

func main() {
	state := flag.String("state", "", "state directory")
	project := flag.String("project", "demo", "name of the project that owns them")
	n := flag.Int("n", 10000, "how many")
	flag.Parse()
	if err := fill(context.Background(), *state, *project, *n); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func fill(ctx context.Context, state, project string, n int) error {
	st, err := sqlstore.Open(ctx, sqlstore.Config{Path: filepath.Join(state, "store.db")})
	if err != nil {
		return err
	}
	p, err := st.IdentityProject(ctx, project)
	if err != nil {
		return fmt.Errorf("find the project: %w", err)
	}
	versions, err := st.DatastoreVersions(ctx, "")
	if err != nil || len(versions) == 0 {
		return fmt.Errorf("find a datastore version (%d): %w", len(versions), err)
	}
	const batch = 500
	for done := 0; done < n; done += batch {
		err := st.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
			for i := done; i < min(n, done+batch); i++ {
				if err := tx.InsertInstance(ctx, instance(p.ID, versions[0].ID, i)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("insert instances: %w", err)
		}
	}
	return st.Close()
}

func instance(project, version string, i int) trove.Instance {
	now := time.Now().UTC().Truncate(time.Second)
	return trove.Instance{
		ID: trove.NewID(), ProjectID: project, Name: fmt.Sprintf("row-%05d", i), Created: now, Updated: now,
		Task: trove.TaskBuildErrorServer, ServerStatus: trove.ServerError, DatastoreVersionID: version, FlavorID: "1", VolumeSize: 1,
		Region: "RegionOne", Addresses: []trove.Address{{Address: fmt.Sprintf("10.99.%d.%d", i/250, i%250+1), Type: "private", Network: trove.NewID()}},
		Fault: &trove.Fault{Message: "This row is for a measurement.", Created: now},
	}
}
