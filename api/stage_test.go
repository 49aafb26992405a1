package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/store"
)

// What an example finds beside the instance, the group, the module and the cluster of ensureLab.
const (
	stageBackup  = "40000000-0000-4000-8000-000000000001" // done
	stageFailed  = "40000000-0000-4000-8000-000000000002" // without an object
	stageModule  = "20000000-0000-4000-8000-000000000002" // the instance has it
	stageCluster = "30000000-0000-4000-8000-000000000002"
	stageMember  = "10000000-0000-4000-8000-000000000003"
)

// staged are the names that examples have for what is there.
var staged = map[string]string{
	"{instance}": labID, "{project}": project, "{absent}": absentID, "{version}": versionID("mysql", "8.0.29"), "{operation}": absentID,
	"{image}": imageID, "{network}": networkID, "{backup}": stageBackup, "{failed}": stageFailed, "{module}": fuzzModule, "{applied}": stageModule,
	"{cluster}": stageCluster, "{member}": stageMember, "{empty}": fuzzCluster, "{group}": fuzzGroup,
}

// stage makes what examples show.
func (w *world) stage(t *testing.T) {
	t.Helper()
	w.addLab(t)
	w.addFuzzed(t)
	now := w.clock.Now()
	of := versionID("mysql", "5.7.29")
	inTx(t, w.store, func(ctx context.Context, tx store.Tx) error {
		backup := trove.Backup{
			ID: stageBackup, ProjectID: project, InstanceID: labID, Name: "monday", State: trove.BackupCompleted, Size: 0.12, Checksum: "3b5d5c3712955042212316173ccf37be",
			Location: "https://objects.example/v1/backups/monday.xbstream.gz.enc", DatastoreVersionID: of, StorageDriver: "swift", Created: now, Updated: now,
		}
		failed := trove.Backup{
			ID: stageFailed, ProjectID: project, InstanceID: labID, Name: "sunday", State: trove.BackupFailed, DatastoreVersionID: of, Created: now, Updated: now,
		}
		const sum = "c8939feab6ea737c0bb2229390abdcfb"
		module := trove.Module{
			ID: stageModule, ProjectID: project, Name: "greeting", Type: "ping", MD5: sum, Visible: true, ApplyOrder: 5, Created: now, Updated: now,
		}
		cluster := trove.Cluster{
			ID: stageCluster, ProjectID: project, Name: "galera", Task: trove.ClusterNone, DatastoreVersionID: versionID("mariadb", "10.4.18"), Created: now, Updated: now,
		}
		group := trove.Configuration{
			ID: fuzzGroup, ProjectID: project, Name: "busy", DatastoreVersionID: of, Values: map[string]json.RawMessage{"max_connections": json.RawMessage("500")},
			Created: now, Updated: now,
		}
		return errors.Join(tx.InsertBackup(ctx, backup), tx.InsertBackup(ctx, failed), tx.TakeQuota(ctx, project, map[string]int{trove.QuotaBackups: 2}),
			tx.InsertModule(ctx, module), tx.PutInstanceModule(ctx, trove.InstanceModule{InstanceID: labID, ModuleID: stageModule, MD5: sum, Created: now, Updated: now}),
			tx.InsertCluster(ctx, cluster), tx.InsertConfiguration(ctx, group),
			tx.PutBackupStrategy(ctx, trove.BackupStrategy{ProjectID: project, Backend: trove.BackendSwift, Container: "nightly", Created: now}))
	})
	w.clusterMember(t, stageCluster, stageMember)
	cert, _ := serverCertificate(t)
	w.guests.tls = guestapi.SetTLSArgs{Mode: "basic", Cert: cert}
	w.guests.databases[labID] = []string{"db1"}
	w.guests.users[labID] = []trove.User{{Name: "u1", Host: "%", Databases: []string{"db1"}}}
}
