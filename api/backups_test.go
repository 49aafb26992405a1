package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/store"
)

// backup writes a backup as a later release, or an import, does.
func (w *world) backup(t testing.TB, b trove.Backup) trove.Backup {
	t.Helper()
	if b.ID == "" {
		b.ID = trove.NewID()
	}
	if b.ProjectID == "" {
		b.ProjectID = project
	}
	if b.DatastoreVersionID == "" {
		b.DatastoreVersionID = versionID("mysql", "8.0.29")
	}
	w.clock.Add(time.Second)
	b.Name, b.Created, b.Updated = "b", w.clock.Now(), w.clock.Now()
	inTx(t, w.store, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(tx.InsertBackup(ctx, b), tx.TakeQuota(ctx, b.ProjectID, map[string]int{trove.QuotaBackups: 1}))
	})
	return b
}

// refused checks an answer that says no, and returns its sentence.
func (w *world) refused(t *testing.T, status int, token, method, path, body string) string {
	t.Helper()
	rec := w.ask(t, token, method, path, body)
	if rec.Code != status {
		t.Errorf("%s %s %s: status %d, want %d: %s", method, path, body, rec.Code, status, rec.Body)
	}
	return message(t, rec)
}

// TestABackupIsRefusedAfterEverythingElse: what is wrong with a request is said first, and a refusal leaves nothing.
func TestABackupIsRefusedAfterEverythingElse(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	foreign := w.backup(t, trove.Backup{ProjectID: projectOther, State: trove.BackupCompleted})
	before := w.inUse(t)
	for name, c := range map[string]struct {
		body    string
		status  int
		message string
	}{
		"no instance":      {`{"backup":{"name":"b"}}`, 400, "instance is missing."},
		"unknown instance": {`{"backup":{"name":"b","instance":"` + absentID + `"}}`, 404, "Resource " + absentID + " cannot be found."},
		"unknown parent":   {`{"backup":{"name":"b","instance":"` + id + `","parent_id":"` + absentID + `"}}`, 404, "Resource " + absentID + " cannot be found."},
		"foreign parent":   {`{"backup":{"name":"b","instance":"` + id + `","parent_id":"` + foreign.ID + `"}}`, 404, "Resource " + foreign.ID + " cannot be found."},
		"unknown version": {
			`{"backup":{"name":"b","restore_from":{"remote_location":"http://x/a","local_datastore_version_id":"` + absentID + `","size":1}}}`, 400,
			"Datastore version '" + absentID + "' cannot be found.",
		},
		"good":     {`{"backup":{"name":"b","instance":"` + id + `","incremental":1,"swift_container":"box"}}`, 501, "Backups cannot be made yet: "},
		"register": {`{"backup":{"name":"b","restore_from":{"remote_location":"http://x/a","local_datastore_version_id":"` + versionID("mysql", "8.0.29") + `","size":1}}}`, 501, "Backups cannot be registered"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := w.refused(t, c.status, "member", http.MethodPost, "/backups", c.body); !strings.HasPrefix(got, c.message) {
				t.Errorf("%q, want %q", got, c.message)
			}
		})
	}
	all, err := w.store.Backups(t.Context(), store.BackupFilter{ProjectID: project})
	if err != nil || len(all) > 0 {
		t.Errorf("left: %v %v", all, err)
	}
	if diff := cmp.Diff(before, w.inUse(t)); diff != "" {
		t.Errorf("quota in use:\n%s", diff)
	}
}

// Trap 13: a quota that is exceeded is 413, also where the request would be refused anyway.
func TestTrap13BackupsOverQuota(t *testing.T) {
	w := newWorld(t, map[string]int{trove.QuotaBackups: 1}, nil)
	id := w.built(t)
	w.backup(t, trove.Backup{State: trove.BackupCompleted})
	body := `{"backup":{"name":"b","instance":"` + id + `"}}`
	if got := w.refused(t, http.StatusRequestEntityTooLarge, "member", http.MethodPost, "/backups", body); got != "Quota exceeded for resources: ['backups']." {
		t.Error(got)
	}
}

// TestAnInstanceThatIsBackedUp shows BACKUP, takes no action, and is freed by a reset of its status.
func TestAnInstanceThatIsBackedUp(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	b := w.backup(t, trove.Backup{InstanceID: id, State: trove.BackupBuilding})
	var one wire.InstanceBody
	w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+id, "", &one)
	var list wire.InstanceList
	w.must(t, http.StatusOK, "member", http.MethodGet, "/instances", "", &list)
	if one.Instance.Status != "BACKUP" || one.Instance.OperatingStatus != "HEALTHY" || len(list.Instances) != 1 || list.Instances[0].Status != "BACKUP" {
		t.Errorf("show %s %s, list %+v", one.Instance.Status, one.Instance.OperatingStatus, list.Instances)
	}
	for path, body := range map[string]string{
		"/instances/" + id + "/action": `{"restart":{}}`, "/backups": `{"backup":{"name":"b","instance":"` + id + `"}}`,
	} {
		if got := w.refused(t, http.StatusUnprocessableEntity, "member", http.MethodPost, path, body); !strings.HasSuffix(got, "(instance status was BACKUP).") {
			t.Error(got)
		}
	}
	w.must(t, http.StatusAccepted, "admin", http.MethodPost, "/instances/"+id+"/action", `{"reset_status":{}}`, nil)
	var shown wire.BackupBody
	w.must(t, http.StatusOK, "member", http.MethodGet, "/backups/"+b.ID, "", &shown)
	w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+id, "", &one)
	if shown.Backup.Status != "FAILED" || one.Instance.Status != "ACTIVE" {
		t.Errorf("after the reset the backup is %s, the instance %s", shown.Backup.Status, one.Instance.Status)
	}
}

// Trap 2: times have no zone and no fraction.
func TestTrap2TimesOfBackupsHaveNoZone(t *testing.T) {
	w := newWorld(t, nil, nil)
	b := w.backup(t, trove.Backup{State: trove.BackupCompleted})
	rec := w.must(t, http.StatusOK, "member", http.MethodGet, "/backups/"+b.ID, "", nil)
	if !regexp.MustCompile(`"created":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d","updated":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"`).Match(rec.Body.Bytes()) {
		t.Errorf("%s", rec.Body)
	}
}

// Trap 17: an administrator's list is the own project's, unless all_projects asks for more, which nobody else may.
func TestTrap17AdministratorsListTheirOwnBackups(t *testing.T) {
	w := newWorld(t, nil, nil)
	mine, other := w.backup(t, trove.Backup{State: trove.BackupCompleted}), w.backup(t, trove.Backup{ProjectID: projectOther, State: trove.BackupCompleted})
	list := func(token, query string) []string {
		t.Helper()
		var out wire.BackupList
		w.must(t, http.StatusOK, token, http.MethodGet, "/backups"+query, "", &out)
		var ids []string
		for _, b := range out.Backups {
			ids = append(ids, b.ID)
		}
		return ids
	}
	for query, want := range map[string][]string{
		"": {mine.ID}, "?all_projects=True": {other.ID, mine.ID}, "?project_id=" + projectOther: {other.ID}, "?all_projects=false": {mine.ID},
	} {
		if diff := cmp.Diff(want, list("admin", query)); diff != "" {
			t.Errorf("%q:\n%s", query, diff)
		}
	}
	for _, query := range []string{"?all_projects=1", "?project_id=" + projectOther} {
		if got := w.refused(t, http.StatusForbidden, "member", http.MethodGet, "/backups"+query, ""); !strings.Contains(got, "backup:index:all_projects") {
			t.Error(got)
		}
	}
}

// TestTheMarkerOfBackupsIsANumber: pages of any length, and one link more than there are pages where the last one is full.
func TestTheMarkerOfBackupsIsANumber(t *testing.T) {
	w := newWorld(t, map[string]int{trove.QuotaBackups: -1}, nil)
	id := w.built(t)
	for range 30 {
		w.backup(t, trove.Backup{InstanceID: id, State: trove.BackupCompleted})
	}
	for _, path := range []string{"/backups", "/instances/" + id + "/backups"} {
		for query, want := range map[string]struct {
			items int
			next  string
		}{
			"": {20, "20"}, "?limit=25": {25, "25"}, "?limit=30": {30, "30"}, "?limit=30&marker=30": {0, ""}, "?limit=31": {30, ""}, "?limit=0": {0, "0"},
			"?limit=7&marker=28": {2, ""}, "?marker=2147483647": {0, ""},
		} {
			var out wire.BackupList
			w.must(t, http.StatusOK, "member", http.MethodGet, path+query, "", &out)
			next := ""
			if len(out.Links) == 1 {
				next = out.Links[0].Href[strings.LastIndexByte(out.Links[0].Href, '=')+1:]
			}
			if len(out.Backups) != want.items || next != want.next {
				t.Errorf("%s%s: %d items, next %q, want %+v", path, query, len(out.Backups), next, want)
			}
		}
		for _, query := range []string{"?limit=x", "?limit=-1", "?marker=-1", "?marker=" + absentID, "?marker=9223372036854775807"} {
			w.refused(t, http.StatusBadRequest, "member", http.MethodGet, path+query, "")
		}
	}
}

// TestDeleteBackups: with what builds on it, all or none; nothing is left behind, and the quota comes back.
func TestDeleteBackups(t *testing.T) {
	w := newWorld(t, nil, nil)
	parent := w.backup(t, trove.Backup{State: trove.BackupRestored, Location: "http://x/a"})
	child := w.backup(t, trove.Backup{State: trove.BackupFailed, ParentID: parent.ID})
	running := w.backup(t, trove.Backup{State: trove.BackupSaving, ParentID: child.ID})
	with := w.backup(t, trove.Backup{State: trove.BackupCompleted, Location: "http://x/b"})
	path := "/backups/" + parent.ID
	if got := w.refused(t, 422, "member", http.MethodDelete, path, ""); got != "Backup "+running.ID+" cannot be deleted because it is running." {
		t.Error(got)
	}
	if got := w.refused(t, 501, "member", http.MethodDelete, "/backups/"+with.ID, ""); !strings.Contains(got, "http://x/b") {
		t.Error(got)
	}
	if n := w.inUse(t)[trove.QuotaBackups]; n != 4 {
		t.Errorf("%d in use", n)
	}
	w.clock.Add(trove.BackupExpiry) // nobody makes it any more
	w.must(t, http.StatusAccepted, "member", http.MethodDelete, path, "", nil)
	for _, b := range []trove.Backup{parent, child, running} {
		w.refused(t, 404, "member", http.MethodGet, "/backups/"+b.ID, "")
	}
	if n := w.inUse(t)[trove.QuotaBackups]; n != 1 {
		t.Errorf("%d in use after it", n)
	}
	w.refused(t, 404, "member", http.MethodDelete, path, "")
}

// Trap 11: what belongs to another project is not there, rather than forbidden; administrators see it.
func TestTrap11ForeignThingsAreNotThere(t *testing.T) {
	w := newWorld(t, nil, nil)
	b := w.backup(t, trove.Backup{State: trove.BackupFailed})
	var m wire.ModuleBody
	w.must(t, http.StatusOK, "member", http.MethodPost, "/modules", pingModule, &m)
	cl, members := w.cluster(t, 3)
	for path, sentence := range map[string]string{
		"/backups/" + b.ID:                                "Resource " + b.ID + " cannot be found.",
		"/modules/" + m.Module.ID:                         "Module with ID " + m.Module.ID + " could not be found.",
		"/modules/" + m.Module.ID + "/instances":          "Module with ID " + m.Module.ID + " could not be found.",
		"/clusters/" + cl.ID:                              "Cluster '" + cl.ID + "' cannot be found.",
		"/clusters/" + cl.ID + "/instances/" + members[0]: "Cluster '" + cl.ID + "' cannot be found.",
	} {
		if got := w.refused(t, 404, "other", http.MethodGet, path, ""); got != sentence {
			t.Errorf("%s: %q", path, got)
		}
		w.must(t, http.StatusOK, "admin_other", http.MethodGet, path, "", nil)
	}
	for _, path := range []string{"/backups/" + b.ID, "/modules/" + m.Module.ID, "/clusters/" + cl.ID} {
		w.refused(t, 404, "other", http.MethodDelete, path, "")
	}
	w.refused(t, 404, "other", http.MethodPut, "/modules/"+m.Module.ID, `{"module":{"name":"x"}}`)
	w.refused(t, 404, "other", http.MethodPost, "/clusters/"+cl.ID, `{"restart":{}}`)
}

// TestRestoreIsRefusedAfterEverythingElse: what a create says of its backup is checked as Trove does, the quota too, and nothing is left.
func TestRestoreIsRefusedAfterEverythingElse(t *testing.T) {
	w := newWorld(t, nil, nil)
	add := func(s trove.BackupState, size float64) string {
		return w.backup(t, trove.Backup{State: s, Size: size}).ID
	}
	foreign := w.backup(t, trove.Backup{ProjectID: projectOther, State: trove.BackupCompleted}).ID
	running, failed, good, large := add(trove.BackupNew, 0), add(trove.BackupFailed, 0), add(trove.BackupCompleted, 0.5), add(trove.BackupRestored, 9)
	for name, c := range map[string]struct {
		backup  string
		size    int
		extra   string
		status  int
		message string
	}{
		"unknown":         {absentID, 1, "", 404, "Resource " + absentID + " cannot be found."},
		"foreign":         {foreign, 1, "", 404, "Resource " + foreign + " cannot be found."},
		"running":         {running, 1, "", 409, "Unable to create instance because backup " + running + " is not completed. Actual state: NEW."},
		"failed":          {failed, 1, "", 409, "Unable to create instance because backup " + failed + " is not completed. Actual state: FAILED."},
		"too large":       {large, 8, "", 403, "Backup is too large for given flavor or volume. Backup size: 9.0 GBs. Available size: 8 GBs."},
		"other datastore": {good, 1, `,"datastore":{"type":"mariadb"}`, 400, "The datastore from which the backup was taken, mysql, does not match the destination datastore of mariadb."},
		"over quota":      {large, 41, "", 413, "Quota exceeded for resources: ['volumes']."},
		"good":            {good, 1, "", 501, "Instances cannot be made from a backup yet: this release lists and shows backups."},
	} {
		t.Run(name, func(t *testing.T) {
			body := fmt.Sprintf(`{"instance":{"name":"db","flavorRef":"2","volume":{"size":%d},"restorePoint":{"backupRef":"%s"}%s}}`, c.size, c.backup, c.extra)
			if got := w.refused(t, c.status, "member", http.MethodPost, "/instances", body); got != c.message {
				t.Error(got)
			}
		})
	}
	left, err := w.store.Instances(t.Context(), store.InstanceFilter{})
	if err != nil || len(left) > 0 || w.inUse(t)[trove.QuotaInstances] > 0 {
		t.Errorf("left: %v %v %v", left, w.inUse(t), err)
	}
}

// TestReplicationIsRefusedAfterEverythingElse: on a set that is there, such as one of an imported database.
func TestReplicationIsRefusedAfterEverythingElse(t *testing.T) {
	w := newWorld(t, nil, nil)
	source, replica := w.built(t), w.built(t)
	w.change(t, replica, func(i *trove.Instance) { i.ReplicaOf = source })
	act := func(status int, id, action, want string) {
		t.Helper()
		got := w.refused(t, status, "member", http.MethodPost, "/instances/"+id+"/action", `{"`+action+`":{}}`)
		if got != want {
			t.Errorf("%s: %q", action, got)
		}
	}
	const not = "Replica sets cannot be made or changed yet: this release does not offer replication."
	act(400, source, "promote_to_replica_source", "Instance "+source+" is not a replica.")
	act(501, replica, "promote_to_replica_source", not)
	create := `{"instance":{"name":"r","replica_of":"` + source + `"}}`
	if got := w.refused(t, 501, "member", http.MethodPost, "/instances", create); got != not {
		t.Error(got)
	}
	act(400, replica, "eject_replica_source", "Instance "+replica+" is not a replica source.")
	act(400, source, "eject_replica_source", "Replica Source "+source+" cannot be ejected as it has a current heartbeat")
	w.clock.Add(time.Hour)
	act(501, source, "eject_replica_source", not)
	detach := `{"instance":{"replica_of":""}}`
	if got := w.refused(t, 501, "member", http.MethodPut, "/instances/"+replica, detach); got != not {
		t.Error(got)
	}
	w.change(t, replica, func(i *trove.Instance) { i.Task = trove.TaskResizing })
	w.refused(t, 422, "member", http.MethodPut, "/instances/"+replica, detach)
	act(422, replica, "promote_to_replica_source",
		"Instance "+replica+" is not currently available for an action to be performed (task status was RESIZING).")
}

// TestBackupStrategies: one for a project and one for each instance, replaced by another; another project's are for administrators.
func TestBackupStrategies(t *testing.T) {
	w := newWorld(t, nil, nil)
	post := func(body string) {
		t.Helper()
		w.must(t, http.StatusAccepted, "member", http.MethodPost, "/backup_strategies", `{"backup_strategy":`+body+`}`, nil)
	}
	containers := func(token, query string) string {
		t.Helper()
		var out wire.BackupStrategyList
		w.must(t, http.StatusOK, token, http.MethodGet, "/backup_strategies"+query, "", &out)
		text := strconv.Itoa(len(out.Strategies))
		for _, s := range out.Strategies {
			text += " " + s.Container
		}
		return text
	}
	post(`{"swift_container":"one"}`)
	post(`{"swift_container":"two","instance_id":"` + absentID + `"}`)
	post(`{"swift_container":"three","instance_id":"` + absentID + `"}`)
	for query, want := range map[string]string{"": "2 one three", "?instance_id=" + absentID: "1 three", "?project_id=" + project: "2 one three"} {
		if got := containers("member", query); got != want {
			t.Errorf("%q: %s, want %s", query, got, want)
		}
	}
	if got := containers("admin_other", "?project_id="+project); got != "2 one three" {
		t.Error(got)
	}
	if got := containers("other", ""); got != "0" {
		t.Error(got)
	}
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		if got := w.refused(t, 403, "other", method, "/backup_strategies?project_id="+project, ""); got != "Operation not allowed for tenant "+projectOther+"." {
			t.Error(got)
		}
	}
	for range 2 {
		w.must(t, http.StatusAccepted, "member", http.MethodDelete, "/backup_strategies", "", nil)
	}
	w.must(t, http.StatusAccepted, "admin_other", http.MethodDelete, "/backup_strategies?project_id="+project+"&instance_id="+absentID, "", nil)
	if got := containers("member", ""); got != "0" {
		t.Error(got)
	}
}

// TestEachCallAsksItsPolicy: without the rule the call is refused, whatever else it is allowed.
func TestEachCallAsksItsPolicy(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	b := w.backup(t, trove.Backup{InstanceID: id, State: trove.BackupFailed})
	m := w.module(t, "member", `"name":"m"`)
	cl, members := w.cluster(t, 1)
	rules := w.config.Policy
	for rule, c := range map[string][3]string{
		"backup:index":                  {http.MethodGet, "/backups"},
		"backup:index:all_projects":     {http.MethodGet, "/backups?all_projects=1"},
		"backup:create":                 {http.MethodPost, "/backups", `{"backup":{"name":"b","instance":"` + id + `"}}`},
		"backup:show":                   {http.MethodGet, "/backups/" + b.ID},
		"backup:delete":                 {http.MethodDelete, "/backups/" + b.ID},
		"instance:backups":              {http.MethodGet, "/instances/" + id + "/backups"},
		"backup_strategy:index":         {http.MethodGet, "/backup_strategies"},
		"backup_strategy:create":        {http.MethodPost, "/backup_strategies", `{"backup_strategy":{"swift_container":"a"}}`},
		"backup_strategy:delete":        {http.MethodDelete, "/backup_strategies"},
		"module:index":                  {http.MethodGet, "/modules"},
		"module:create":                 {http.MethodPost, "/modules", pingModule},
		"module:show":                   {http.MethodGet, "/modules/" + m.ID},
		"module:update":                 {http.MethodPut, "/modules/" + m.ID, `{"module":{}}`},
		"module:delete":                 {http.MethodDelete, "/modules/" + m.ID},
		"module:instances":              {http.MethodGet, "/modules/" + m.ID + "/instances"},
		"module:reapply":                {http.MethodPut, "/modules/" + m.ID + "/instances", `{"reapply":{}}`},
		"instance:module_list":          {http.MethodGet, "/instances/" + id + "/modules"},
		"instance:module_apply":         {http.MethodPost, "/instances/" + id + "/modules", `{}`},
		"instance:module_remove":        {http.MethodDelete, "/instances/" + id + "/modules/" + m.ID},
		"cluster:index":                 {http.MethodGet, "/clusters"},
		"cluster:create":                {http.MethodPost, "/clusters", `{"cluster":{"name":"c","datastore":{"type":"mysql","version":"5.7.29"},"instances":[]}}`},
		"cluster:show":                  {http.MethodGet, "/clusters/" + cl.ID},
		"cluster:delete":                {http.MethodDelete, "/clusters/" + cl.ID},
		"cluster:action":                {http.MethodPost, "/clusters/" + cl.ID, `{"restart":{}}`},
		"cluster:reset-status":          {http.MethodPost, "/clusters/" + cl.ID, `{"reset-status":{}}`},
		"cluster:force_delete":          {http.MethodPost, "/clusters/" + cl.ID, `{"reset-status":{"force_delete":1}}`},
		"cluster:show_instance":         {http.MethodGet, "/clusters/" + cl.ID + "/instances/" + members[0]},
		"cluster:extension:root:index":  {http.MethodGet, "/clusters/" + cl.ID + "/root"},
		"cluster:extension:root:create": {http.MethodPost, "/clusters/" + cl.ID + "/root"},
		"cluster:extension:root:delete": {http.MethodDelete, "/clusters/" + cl.ID + "/root"},
	} {
		w.config.Policy = denying{rules, rule}
		w.rebuild(t)
		if rec := w.ask(t, "admin", c[0], c[1], c[2]); rec.Code != http.StatusForbidden {
			t.Errorf("%s: %s %s is %d without it: %s", rule, c[0], c[1], rec.Code, rec.Body)
		}
		w.config.Policy = denying{rules, "nothing"}
		w.rebuild(t)
		if c[0] == http.MethodGet && !strings.HasSuffix(c[1], "/root") {
			w.must(t, http.StatusOK, "admin", c[0], c[1], "", nil)
		}
	}
}
