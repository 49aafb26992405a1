package api_test

import (
	"context"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

// goldenBackups are the backups that the recording made: by placeholder, with the name, and how long after the first one they changed last.
var goldenBackups = []struct {
	placeholder, name, parent string
	updated                   time.Duration
}{
	{"backup", "golden-b1", "", 3 * time.Minute},
	{"backup_third", "golden-b3", "backup", 2 * time.Minute},
	{"backup_child", "golden-b2", "backup", time.Minute},
}

// behindBackups makes and removes what the recording's guests and taskmanager did, and what is refused here.
func (g *golden) behindBackups(r *record) {
	switch r.file + "/" + r.Name {
	case "backups/create":
		g.insertBackup(0, trove.BackupNew)
	case "backups/new-delete-instance-users":
		g.changeBackup("backup", func(b *trove.Backup) {
			b.State, b.Size, b.Location = trove.BackupCompleted, 0.5, g.bound["object_store_url"]+"/database_backups/"+b.ID+".gz"
		})
	case "backups/create-incremental-flag":
		g.insertBackup(1, trove.BackupCompleted)
		g.insertBackup(2, trove.BackupCompleted)
		g.changeBackup("backup_child", func(b *trove.Backup) { b.Location = g.bound["object_store_url"] + "/database_backups/child.gz" })
		g.changeBackup("backup_third", func(*trove.Backup) {})
		g.changeBackup("backup", func(*trove.Backup) {})
	case "backups/delete-with-children":
		for _, b := range goldenBackups {
			inTx(g.t, g.store, func(ctx context.Context, tx store.Tx) error {
				return tx.DeleteBackup(ctx, g.bound[b.placeholder], g.clock.Now())
			})
		}
	case "modules/delete-applied": // here it is not applied, and was deleted
		g.removeModule(g.bound["module"])
		g.insertModule("golden-m")
	case "clusters/create-mysql":
		g.insertCluster(false)
	case "clusters/create-mariadb":
		g.bound["cluster"] = g.insertCluster(true)
	}
}

func (g *golden) insertBackup(n int, state trove.BackupState) {
	is := goldenBackups[n]
	b := trove.Backup{
		ID: trove.NewID(), ProjectID: project, InstanceID: g.bound["instance_a"], Name: is.name, ParentID: g.bound[is.parent], State: state,
		DatastoreVersionID: versionID("mysql", "5.7.29"), Created: g.clock.Now(), Updated: g.clock.Now(),
	}
	if state == trove.BackupCompleted {
		b.Size = 0.5
	} else {
		b.Description = "text"
	}
	g.bound[is.placeholder] = b.ID
	inTx(g.t, g.store, func(ctx context.Context, tx store.Tx) error { return tx.InsertBackup(ctx, b) })
}

// changeBackup changes a backup as of the time at which it changed last.
func (g *golden) changeBackup(placeholder string, change func(*trove.Backup)) {
	for _, is := range goldenBackups {
		if is.placeholder != placeholder {
			continue
		}
		inTx(g.t, g.store, func(ctx context.Context, tx store.Tx) error {
			return tx.UpdateBackup(ctx, g.bound[placeholder], g.clock.Now().Add(is.updated), func(b *trove.Backup) error { change(b); return nil })
		})
	}
}

// specialBackup makes the states of a backup that the recording names.
func (g *golden) specialBackup(r *record) {
	if r.file != "backups" {
		return
	}
	switch {
	case strings.HasPrefix(r.State, "size of the backup 9"):
		g.changeBackup("backup", func(b *trove.Backup) { b.Size = 9 })
	case r.Name == "restore-other-datastore":
		g.changeBackup("backup", func(b *trove.Backup) { b.Size = 0.5 })
	}
}

func (g *golden) removeModule(id string) {
	inTx(g.t, g.store, func(ctx context.Context, tx store.Tx) error { return tx.DeleteModule(ctx, id, g.clock.Now()) })
}

func (g *golden) insertModule(name string) {
	m := trove.Module{
		ID: trove.NewID(), ProjectID: project, Name: name, Type: "ping", MD5: strings.Repeat("0", 32), Visible: true, ApplyOrder: 5, Created: g.clock.Now(),
		Updated: g.clock.Now(),
	}
	g.bound["module"] = m.ID
	inTx(g.t, g.store, func(ctx context.Context, tx store.Tx) error { return tx.InsertModule(ctx, m) })
}

// insertCluster makes the cluster of the recording: the one that failed and was removed, or the one that was being built.
func (g *golden) insertCluster(living bool) string {
	now := g.clock.Now()
	cl := trove.Cluster{
		ID: trove.NewID(), ProjectID: project, Name: "golden", Task: trove.ClusterBuilding, DatastoreVersionID: versionID("mariadb", "10.4.18"), Created: now,
		Updated: now,
	}
	inTx(g.t, g.store, func(ctx context.Context, tx store.Tx) error {
		if err := tx.InsertCluster(ctx, cl); err != nil {
			return err
		}
		if !living {
			return tx.DeleteCluster(ctx, cl.ID, now)
		}
		for _, name := range []string{"golden-member-1795399449", "golden-member-1795399447", "golden-member-1795399448"} {
			err := tx.InsertInstance(ctx, trove.Instance{
				ID: trove.NewID(), ProjectID: project, Name: name, Created: now, Updated: now, Task: trove.TaskBuilding, ServerStatus: trove.ServerActive,
				DatastoreVersionID: cl.DatastoreVersionID, FlavorID: "2", VolumeSize: 1, ClusterID: cl.ID, MemberType: "member",
				Addresses: []trove.Address{{Address: "10.0.0.10", Type: "private", Network: networkID}},
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return cl.ID
}
