package cli_test

import (
	"net/http"

	"github.com/trove-dbaas/trove/api/wire"
)

const (
	backupID  = "1b8e5f2c-3b51-4b0e-9d5e-0c1f7a3d2b12"
	childID   = "2c8e5f2c-3b51-4b0e-9d5e-0c1f7a3d2b13"
	moduleID  = "3d8e5f2c-3b51-4b0e-9d5e-0c1f7a3d2b14"
	clusterID = "4e8e5f2c-3b51-4b0e-9d5e-0c1f7a3d2b15"
)

// parts are backups, modules and clusters.
func (f *fakeAPI) parts() {
	get := func(path string, body any) {
		f.mux.HandleFunc("GET /v1.0/p"+path, func(w http.ResponseWriter, _ *http.Request) { encode(w, body) })
	}
	change := func(pattern string, answer any) {
		f.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { f.change(w, r, answer) })
	}
	full, child := backups()
	f.mux.HandleFunc("GET /v1.0/p/backups", func(w http.ResponseWriter, r *http.Request) {
		page := wire.BackupList{Backups: []wire.Backup{child}, Links: []wire.Link{{Rel: "next", Href: "http://x/?marker=1"}}}
		if r.URL.Query().Get("marker") == "1" {
			page = wire.BackupList{Backups: []wire.Backup{full}}
		}
		encode(w, page)
	})
	get("/instances/"+shopID+"/backups", wire.BackupList{Backups: []wire.Backup{full}})
	get("/backups/"+backupID, wire.BackupBody{Backup: full})
	get("/backups/"+childID, wire.BackupBody{Backup: child})
	change("POST /v1.0/p/backups", wire.BackupBody{Backup: child})
	change("DELETE /v1.0/p/backups/{id}", nil)
	strategy := wire.BackupStrategy{ProjectID: "p", Backend: "swift", Container: "box"}
	get("/backup_strategies", wire.BackupStrategyList{Strategies: []wire.BackupStrategy{strategy, {ProjectID: "p", InstanceID: shopID, Container: "box2"}}})
	change("POST /v1.0/p/backup_strategies", wire.BackupStrategyBody{Strategy: strategy})
	change("DELETE /v1.0/p/backup_strategies", nil)

	m := module()
	get("/modules", wire.ModuleList{Modules: []wire.Module{m}})
	m.LiveUpdate, m.InstanceCount = new(true), new(1)
	get("/modules/"+moduleID, wire.ModuleBody{Module: m})
	change("POST /v1.0/p/modules", wire.ModuleBody{Module: m})
	change("PUT /v1.0/p/modules/"+moduleID, wire.ModuleBody{Module: m})
	change("DELETE /v1.0/p/modules/"+moduleID, nil)
	f.mux.HandleFunc("GET /v1.0/p/modules/"+moduleID+"/instances", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("count_only") == "" {
			encode(w, wire.InstanceList{Instances: []wire.Instance{shop()}})
			return
		}
		encode(w, wire.ModuleCounts{Instances: []wire.ModuleCount{{
			ModuleName: "licence", ModuleID: moduleID, ModuleMD5: "ab", InstanceCount: 2, Current: true, MinUpdated: wire.Time(epoch), MaxUpdated: wire.Time(epoch),
		}}})
	})
	change("PUT /v1.0/p/modules/"+moduleID+"/instances", nil)
	f.mux.HandleFunc("GET /v1.0/p/instances/"+shopID+"/modules", func(w http.ResponseWriter, r *http.Request) {
		with, without, plain := module(), module(), module()
		if r.URL.Query().Get("include_contents") == "" {
			encode(w, wire.ModuleList{Modules: []wire.Module{with}})
			return
		}
		with.Contents, plain.Contents, plain.Name = new("czNjcmV0"), new("!!!"), "../plain"
		encode(w, wire.ModuleList{Modules: []wire.Module{with, without, plain}})
	})
	get("/instances/"+oldID+"/modules", wire.ModuleList{Modules: []wire.Module{}})

	cl := cluster()
	get("/clusters", wire.ClusterList{Clusters: []wire.Cluster{cl}})
	get("/clusters/"+clusterID, wire.ClusterBody{Cluster: cl})
	change("POST /v1.0/p/clusters", wire.ClusterBody{Cluster: cl})
	change("POST /v1.0/p/clusters/"+clusterID, wire.ClusterBody{Cluster: cl})
	change("DELETE /v1.0/p/clusters/"+clusterID, nil)
}

func backups() (full, child wire.Backup) {
	full = wire.Backup{
		ID: backupID, Name: "full", Description: "before the update", Location: "https://swift/v1/AUTH_x/box/o.gz", InstanceID: shopID,
		Created: wire.Time(epoch), Updated: wire.Time(epoch), Size: new(0.61), Status: "COMPLETED", ProjectID: "p",
		Datastore: wire.BackupDatastore{Type: "mariadb", Version: "10.11", VersionID: "v-1"},
	}
	child = wire.Backup{ID: childID, Name: "nightly", InstanceID: shopID, ParentID: backupID, Created: wire.Time(epoch), Updated: wire.Time(epoch), Status: "NEW", ProjectID: "p"}
	return full, child
}

func module() wire.Module {
	return wire.Module{
		ID: moduleID, Name: "licence", Type: "new_relic_license", TenantID: "p", Tenant: "p", Datastore: "mariadb", DatastoreID: "ds-1", DatastoreVersion: "all",
		ApplyOrder: 5, Visible: true, MD5: "ab", Created: wire.Time(epoch), Updated: wire.Time(epoch),
	}
}

func cluster() wire.Cluster {
	return wire.Cluster{
		ID: clusterID, Name: "galera", Task: wire.ClusterTask{ID: 1, Name: "NONE", Description: "No tasks for the cluster."}, Created: wire.Time(epoch),
		Updated: wire.Time(epoch), Datastore: wire.DatastoreRef{Type: new("mariadb"), Version: new("10.11")},
		Instances: []wire.ClusterMember{
			{
				ID: shopID, Name: "galera-1", Type: "member", Status: "ACTIVE", Flavor: &wire.FlavorRef{ID: "1"}, Volume: &wire.Volume{Size: 10},
				IP: []wire.Address{{Address: "10.0.0.5", Type: "private"}},
			},
			{ID: oldID, Name: "galera-2", Type: "member", Status: "BUILD", Flavor: &wire.FlavorRef{ID: "1"}},
		},
		IP: []wire.Address{{Address: "10.0.0.5", Type: "private"}}, Locality: "anti-affinity",
	}
}
