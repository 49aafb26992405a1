package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/store"
)

// fuzzBody sends arbitrary bodies to one operation: never a panic, never a 5xx but "not implemented", always a JSON answer.
func fuzzBody(f *testing.F, method, path string, seeds ...string) {
	f.Helper()
	for _, s := range append(seeds, "{}", "[]", "null", "1", `"x"`, "{", `{"instance":null}`, "\xff") {
		f.Add(s)
	}
	unlimited := map[string]int{trove.QuotaInstances: -1, trove.QuotaRAM: -1, trove.QuotaVolumes: -1}
	w := newWorld(f, unlimited, nil)
	f.Fuzz(func(t *testing.T, body string) {
		if body == "" {
			return
		}
		ensureLab(t, w)
		w.guests.databases, w.guests.users = map[string][]string{}, map[string][]trove.User{labID: {{Name: "u1", Host: "%"}}}
		rec := w.ask(t, "admin", method, path, body)
		if rec.Code >= 500 && rec.Code != http.StatusNotImplemented {
			t.Errorf("%d %s", rec.Code, rec.Body)
		}
		if rec.Body.Len() > 0 && !json.Valid(rec.Body.Bytes()) {
			t.Errorf("no JSON: %q", rec.Body)
		}
		if rec.Code >= 400 {
			message(t, rec)
		}
	})
}

// ensureLab makes the fixture's instance, or brings it back to rest.
func ensureLab(t testing.TB, w *world) {
	t.Helper()
	if _, err := w.store.Instance(t.Context(), labID); err != nil {
		w.addLab(t)
		w.addFuzzed(t)
		w.addGroup(t)
		w.change(t, labID, func(i *trove.Instance) { i.ConfigurationID = fuzzGroup })
		return
	}
	w.finish(t, labID)
	w.activate(t, labID)
	w.clock.Add(1e6)
	w.report(t, labID, trove.ServiceHealthy, w.clock.Now())
}

// What the bodies of changes are sent to.
const (
	fuzzModule  = "20000000-0000-4000-8000-000000000001"
	fuzzCluster = "30000000-0000-4000-8000-000000000001"
)

func (w *world) addGroup(t testing.TB) {
	t.Helper()
	inTx(t, w.store, func(ctx context.Context, tx store.Tx) error {
		return tx.InsertConfiguration(ctx, trove.Configuration{ID: fuzzGroup, ProjectID: project, Name: "g", DatastoreVersionID: versionID("mysql", "5.7.29")})
	})
}

func (w *world) addFuzzed(t testing.TB) {
	t.Helper()
	now := w.clock.Now()
	inTx(t, w.store, func(ctx context.Context, tx store.Tx) error {
		err := tx.InsertModule(ctx, trove.Module{
			ID: fuzzModule, ProjectID: project, Name: "spare", Type: "ping", Visible: true, Created: now, Updated: now,
		})
		if err != nil {
			return err
		}
		return tx.InsertCluster(ctx, trove.Cluster{
			ID: fuzzCluster, ProjectID: project, Name: "spare", Task: trove.ClusterNone, DatastoreVersionID: versionID("mariadb", "10.4.18"), Created: now,
			Updated: now,
		})
	})
}

func FuzzCreateInstance(f *testing.F) {
	fuzzBody(f, http.MethodPost, "/instances", minimalCreate,
		`{"instance":{"name":"a","flavorRef":"http://x/2","volume":{"size":"1","type":"lab"},"datastore":{"type":"mysql","version":"8.0.29"}}}`,
		`{"instance":{"name":"a","flavorRef":2,"volume":{"size":1e0},"nics":[{"subnet_id":"`+subnetID+`","ip_address":"10.0.0.9"}]}}`,
		`{"instance":{"name":"a","flavorRef":2,"volume":{"size":1},"users":[{"name":"u","password":"p","host":"10.%"}],"access":{"allowed_cidrs":["1.2.3.4"]}}}`)
}

func FuzzUpdateInstance(f *testing.F) {
	fuzzBody(f, http.MethodPut, "/instances/"+labID, `{"instance":{"name":"a","access":{"is_public":true}}}`,
		`{"instance":{"configuration":null}}`, `{"instance":{"datastore_version":"8.0.29"}}`, `{"instance":{"replica_of":1}}`)
}

func FuzzEditInstance(f *testing.F) {
	fuzzBody(f, http.MethodPatch, "/instances/"+labID, `{"instance":{"name":"a"}}`, `{"instance":{"slave_of":""}}`)
}

func FuzzInstanceAction(f *testing.F) {
	fuzzBody(f, http.MethodPost, "/instances/"+labID+"/action", `{"restart":{}}`, `{"resize":{"volume":{"size":2}}}`,
		`{"resize":{"flavorRef":"3"}}`, `{"reset_status":{"force_delete":1}}`, `{"promote_to_replica_source":[]}`)
}

func FuzzCreateDatabases(f *testing.F) {
	fuzzBody(f, http.MethodPost, "/instances/"+labID+"/databases", `{"databases":[{"name":"ab","character_set":"utf8","collate":"utf8_bin"}]}`)
}

func FuzzCreateUsers(f *testing.F) {
	fuzzBody(f, http.MethodPost, "/instances/"+labID+"/users", `{"users":[{"name":"u","password":"p","host":"%","databases":[{"name":"ab"}]}]}`)
}

func FuzzChangePasswords(f *testing.F) {
	fuzzBody(f, http.MethodPut, "/instances/"+labID+"/users", `{"users":[{"name":"u1","password":"p"}]}`)
}

func FuzzUpdateUser(f *testing.F) {
	fuzzBody(f, http.MethodPut, "/instances/"+labID+"/users/u1", `{"user":{"name":"u2","password":"p","host":"10.0.0.1"}}`)
}

func FuzzGrant(f *testing.F) {
	fuzzBody(f, http.MethodPut, "/instances/"+labID+"/users/u1/databases", `{"databases":[{"name":"ab"}]}`)
}

func FuzzEnableRoot(f *testing.F) {
	fuzzBody(f, http.MethodPost, "/instances/"+labID+"/root", `{"password":"secret"}`, `{"password":null}`)
}

func FuzzUpdateQuotas(f *testing.F) {
	fuzzBody(f, http.MethodPut, "/mgmt/quotas/"+projectOther, `{"quotas":{"instances":1,"ram":-1,"volumes":null}}`, `{"quotas":{"ram":1e300}}`)
}

func FuzzOperationAction(f *testing.F) {
	fuzzBody(f, http.MethodPost, "/instances/"+labID+"/operations/"+absentID+"/action", `{"cancel":{}}`)
}

func FuzzManageInstance(f *testing.F) {
	fuzzBody(f, http.MethodPost, "/mgmt/instances/"+labID+"/action", `{"upgrade_agent":{"version":"1.2.3","healthy_seconds":5}}`, `{"upgrade_agent":{}}`,
		`{"stop":{}}`, `{"reboot":{}}`, `{"migrate":{"host":"h2"}}`, `{"rebuild":{"image_id":"`+imageID+`"}}`, `{"reset-task-status":[]}`)
}

func FuzzUpgradeInstance(f *testing.F) {
	fuzzBody(f, http.MethodPost, "/mgmt/instances/"+labID+"/upgrade", `{"upgrade":{"instance_version":"1.2.3","location":null}}`)
}

func FuzzChangeSSL(f *testing.F) {
	fuzzBody(f, http.MethodPost, "/instances/"+labID+"/ssl", `{"ssl":{"enable":true,"mode":"mtls","certificate":"c","private_key":"k","ca_certificates":"a"}}`,
		`{"ssl":{"disable":true}}`, `{"ssl":{"rollback":true}}`, `{"ssl":{"enable":true,"container_ref":null}}`)
}

func FuzzCreateBackup(f *testing.F) {
	fuzzBody(f, http.MethodPost, "/backups", `{"backup":{"name":"b","instance":"`+labID+`","parent_id":"`+absentID+`","incremental":1,"storage_driver":[]}}`,
		`{"backup":{"name":"b","restore_from":{"remote_location":"http://x","local_datastore_version_id":"`+absentID+`","size":1e300}}}`)
}

func FuzzCreateBackupStrategy(f *testing.F) {
	fuzzBody(f, http.MethodPost, "/backup_strategies", `{"backup_strategy":{"swift_container":"a","instance_id":"`+labID+`"}}`)
}

func FuzzCreateModule(f *testing.F) {
	fuzzBody(f, http.MethodPost, "/modules", pingModule,
		`{"module":{"name":"m","module_type":"ping","contents":"a","datastore":{"type":"mysql","version":"5.7.29"},"all_tenants":1,"visible":0,"apply_order":9,"full_access":0}}`)
}

func FuzzUpdateModule(f *testing.F) {
	fuzzBody(f, http.MethodPut, "/modules/"+fuzzModule, `{"module":{"contents":"a","all_datastores":1,"all_datastore_versions":0,"datastore":{"version":"5.7.29"}}}`)
}

func FuzzReapplyModule(f *testing.F) {
	fuzzBody(f, http.MethodPut, "/modules/"+fuzzModule+"/instances", `{"reapply":{"md5":"a","batch_size":1,"force":1}}`)
}

func FuzzApplyModules(f *testing.F) {
	fuzzBody(f, http.MethodPost, "/instances/"+labID+"/modules", `{"modules":[{"id":"`+fuzzModule+`"},{}]}`)
}

func FuzzCreateCluster(f *testing.F) {
	fuzzBody(f, http.MethodPost, "/clusters", `{"cluster":{"name":"c","datastore":{"type":"mariadb","version":"10.4.18"},"locality":"affinity","instances":[`+
		clusterNode+`,`+clusterNode+`,{"flavorRef":2,"volume":{"size":"1"},"modules":[]}],"extended_properties":{"num_mongos":"1"}}}`)
}

func FuzzClusterAction(f *testing.F) {
	fuzzBody(f, http.MethodPost, "/clusters/"+fuzzCluster, `{"grow":[`+clusterNode+`]}`, `{"shrink":[{"id":"`+labID+`"}]}`, `{"reset-status":{"force_delete":1}}`,
		`{"upgrade":{"datastore_version":"10.11.6"}}`)
}

func FuzzCreateConfiguration(f *testing.F) {
	fuzzBody(f, http.MethodPost, "/configurations", `{"configuration":{"name":"a","values":{"wait_timeout":1},"datastore":{"type":"mysql","version":"5.7.29"}}}`,
		`{"configuration":{"name":"a","values":{"max_connect_errors":18446744073709551616,"long_query_time":1e999999999,"sql_mode":null}}}`,
		`{"configuration":{"name":"a","values":{"CONNECT_TIMEOUT":2,"connect_timeout":3}}}`)
}

// fuzzGroup is a group that the fixture's instance has, made when it is first asked for.
const fuzzGroup = "e0000000-0000-4000-8000-000000000001"

func FuzzUpdateConfiguration(f *testing.F) {
	fuzzBody(f, http.MethodPut, "/configurations/"+fuzzGroup, `{"configuration":{"name":"b","description":"c","values":{"wait_timeout":5}}}`, `{"configuration":{}}`)
}

func FuzzEditConfiguration(f *testing.F) {
	fuzzBody(f, http.MethodPatch, "/configurations/"+fuzzGroup, `{"configuration":{"values":{"wait_timeout":6,"performance_schema":true}}}`)
}

func FuzzCreateParameter(f *testing.F) {
	fuzzBody(f, http.MethodPost, "/mgmt/datastores/versions/"+versionID("mysql", "8.0.29")+"/parameters",
		`{"configuration-parameter":{"name":"p","restart_required":1,"data_type":"integer","max_size":"5","min_size":-3}}`,
		`{"configuration-parameter":{"name":"p","restart_required":0,"data_type":"mystring","max_size":1e300}}`)
}

func FuzzCreateVersion(f *testing.F) {
	fuzzBody(f, http.MethodPost, "/mgmt/datastore-versions",
		`{"version":{"name":"n","datastore_name":"d","datastore_manager":"mysql","active":true,"image":"`+imageID+`","image_tags":["a"],"packages":["b"],"default":true}}`)
}

func FuzzEditVersion(f *testing.F) {
	fuzzBody(f, http.MethodPatch, "/mgmt/datastore-versions/"+versionID("mysql", "8.0.29"), `{"active":false,"default":false,"name":"8"}`, `{"datastore_manager":"mariadb"}`)
}

// FuzzPath sends arbitrary paths and queries.
func FuzzPath(f *testing.F) {
	for _, s := range []string{
		"/instances/%2e%2e", "/instances/%zz", "/instances?limit=%00&marker=%25", "/instances/" + labID + "/users/%40%25%2525@",
		"/instances/" + labID + "/databases/%2F", "//", "/backups?limit=%2b1&marker=1e9&all_projects=%ff", "/modules?datastore=%00&marker=%25", "/mgmt/clusters?deleted=x", "/instances/x/operations/y?wait=1h&since=-9", "/datastores/%c0/versions/%",
	} {
		f.Add(s)
	}
	w := newWorld(f, nil, func(c *api.Config) { c.PublicEndpoint = "http://x" })
	f.Fuzz(func(t *testing.T, path string) {
		if strings.ContainsAny(path, " \x00\r\n\t") || !strings.HasPrefix(path, "/") || strings.Contains(path, "wait") {
			return
		}
		ensureLab(t, w)
		defer func() {
			if p := recover(); p != nil && !strings.Contains(strings.ToLower(toText(p)), "invalid newrequest arguments") {
				panic(p)
			}
		}()
		rec := w.ask(t, "member", http.MethodGet, path, "")
		if rec.Code >= 500 && rec.Code != http.StatusNotImplemented {
			t.Errorf("%d %s", rec.Code, rec.Body)
		}
	})
}

func toText(v any) string {
	s, _ := v.(string)
	return s
}
