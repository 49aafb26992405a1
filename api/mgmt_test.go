package api_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/store"
)

// TestTrap11ManagementWithoutTheRole: 401, upon which python-troveclient gets a new token and asks once more; also for what does not exist.
func TestTrap11ManagementWithoutTheRole(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	n := 0
	for _, op := range api.Operations() {
		if !op.Admin {
			continue
		}
		n++
		for _, instance := range []string{id, absentID} {
			path := strings.NewReplacer("{instance}", instance, "{id}", instance).Replace(op.Path)
			body := ""
			if op.Schema != "" {
				examples, err := api.Examples(op.ID)
				if err != nil || len(examples) == 0 {
					t.Fatalf("no example of %s: %v", op.ID, err)
				}
				body = string(examples[0].Request)
			}
			rec := w.ask(t, "member", op.Method, path, body)
			if rec.Code != http.StatusUnauthorized || message(t, rec) != "User does not have admin privileges." || rec.Header().Get("Www-Authenticate") == "" {
				t.Errorf("%s %s: %d %s", op.Method, path, rec.Code, rec.Body)
			}
		}
	}
	if n < 21 {
		t.Errorf("only %d operations are for administrators", n)
	}
	if _, open := w.openOperation(t, id); open {
		t.Error("something was begun")
	}
}

func TestMgmtActionsEnqueueAndShow(t *testing.T) {
	for name, c := range map[string]struct{ body, kind, status, operating, input string }{
		"stop":    {`{"stop":{}}`, trove.OpStopEngine, "ACTIVE", "", "null"},
		"reboot":  {`{"reboot":{}}`, trove.OpReboot, "REBOOT", "", "null"},
		"migrate": {`{"migrate":{"host":"h2"}}`, trove.OpMigrate, "ACTIVE", "", `{"host":"h2"}`},
		"rebuild": {`{"rebuild":{"image_id":"` + imageID + `"}}`, trove.OpRebuild, "BUILD", "", "null"},
		"upgrade": {`{"upgrade_agent":{"version":"1.2.3"}}`, trove.OpUpgradeAgent, "ACTIVE", "HEALTHY", `{"version":"1.2.3"}`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			id := w.built(t)
			path := "/mgmt/instances/" + id + "/action"
			rec := w.must(t, http.StatusAccepted, "admin_other", http.MethodPost, path, c.body, nil) // of another project: administrators reach all
			row, open := w.openOperation(t, id)
			if !open || row.Kind != c.kind || row.ID != rec.Header().Get(wire.HeaderOperation) || string(row.Input) != c.input {
				t.Fatalf("the operation is %+v, input %s", row.Operation, row.Input)
			}
			var body wire.MgmtInstanceBody
			w.must(t, http.StatusOK, "admin", http.MethodGet, "/mgmt/instances/"+id, "", &body)
			if body.Instance.Status != c.status || body.Instance.OperatingStatus != c.operating || body.Instance.TaskDescription == "" {
				t.Errorf("status %s %q", body.Instance.Status, body.Instance.OperatingStatus)
			}
			if again := w.ask(t, "admin", http.MethodPost, path, c.body); again.Code != http.StatusUnprocessableEntity {
				t.Errorf("a second one: %d %s", again.Code, again.Body)
			}
		})
	}
}

// catalogWithout hides what the fixture's cloud knows of hosts.
type catalogWithout struct{ cloud.Catalog }

// TestMigrateAsksTheCloud: the refusal and its words are the driver's.
func TestMigrateAsksTheCloud(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	path := "/mgmt/instances/" + id + "/action"
	if rec := w.ask(t, "admin", http.MethodPost, path, `{"migrate":{"host":"h9"}}`); rec.Code != http.StatusBadRequest || !strings.Contains(message(t, rec), "no host h9") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	w.config.Catalog = catalogWithout{w.config.Catalog}
	w.rebuild(t)
	if rec := w.ask(t, "admin", http.MethodPost, path, `{"migrate":{}}`); rec.Code != http.StatusNotImplemented {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	var body wire.MgmtInstanceBody
	w.must(t, http.StatusOK, "admin", http.MethodGet, "/mgmt/instances/"+id, "", &body)
	if _, open := w.openOperation(t, id); open || body.Instance.Server.Host != "" {
		t.Errorf("open %t, host %s", open, body.Instance.Server.Host)
	}
}

func TestMgmtActionsNeedTheRightState(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	path := "/mgmt/instances/" + id + "/action"
	rebuild := `{"rebuild":{"image_id":"` + imageID + `"}}`
	for name, change := range map[string]func(i *trove.Instance){
		"stopped":  func(i *trove.Instance) { i.Task, i.ServerStatus = trove.TaskNone, trove.ServerShutdown },
		"resizing": func(i *trove.Instance) { i.Task, i.ServerStatus = trove.TaskResizing, trove.ServerActive },
		"failed":   func(i *trove.Instance) { i.Task, i.ServerStatus = trove.TaskBuildErrorServer, trove.ServerNone },
	} {
		w.change(t, id, change)
		for _, body := range []string{`{"stop":{}}`, `{"reboot":{}}`, `{"migrate":{}}`, rebuild} {
			if rec := w.ask(t, "admin", http.MethodPost, path, body); rec.Code != http.StatusUnprocessableEntity {
				t.Errorf("%s, %s: %d %s", name, body, rec.Code, rec.Body)
			}
		}
	}
	w.change(t, id, func(i *trove.Instance) { i.Task, i.ServerStatus = trove.TaskNone, trove.ServerError })
	w.must(t, http.StatusAccepted, "admin", http.MethodPost, path, `{"reboot":{}}`, nil) // it is how a machine that failed is mended
	other := `{"rebuild":{"image_id":"` + absentID + `"}}`
	if rec := w.ask(t, "admin", http.MethodPost, path, other); rec.Code != http.StatusBadRequest || !strings.Contains(message(t, rec), imageID) {
		t.Errorf("another image: %d %s", rec.Code, rec.Body)
	}
}

// TestTrap19ResetTask: the task is cleared and its operation cancelled, what the guest said stays; a deletion goes on.
func TestTrap19ResetTask(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	path := "/mgmt/instances/" + id + "/action"
	w.must(t, http.StatusAccepted, "admin", http.MethodPost, path, `{"reboot":{}}`, nil)
	w.must(t, http.StatusAccepted, "admin", http.MethodPost, path, `{"reset-task-status":{}}`, nil)
	op, err := w.store.OpenOperation(t.Context(), id)
	i := w.instance(t, id)
	if err != nil || !op.Cancelled || i.Task != trove.TaskNone || i.Guest.Service != trove.ServiceRestarting {
		t.Errorf("%+v, task %v, service %s, %v", op, i.Task, i.Guest.Service, err)
	}
	w.change(t, id, func(i *trove.Instance) { i.Task = trove.TaskDeleting })
	w.must(t, http.StatusAccepted, "admin", http.MethodPost, path, `{"reset-task-status":null}`, nil)
	if got := w.instance(t, id).Task; got != trove.TaskDeleting {
		t.Errorf("the wish to delete is lost: %v", got)
	}
	// Tenants reset and delete by the action force_delete, which is theirs; reset_status alone is not.
	if rec := w.ask(t, "member", http.MethodPost, "/instances/"+id+"/action", `{"reset_status":{}}`); rec.Code != http.StatusForbidden {
		t.Errorf("reset_status of a member: %d", rec.Code)
	}
	w.change(t, id, func(i *trove.Instance) { i.Task = trove.TaskResizing })
	w.must(t, http.StatusAccepted, "member", http.MethodPost, "/instances/"+id+"/action", `{"reset_status":{"force_delete":1}}`, nil)
	w.must(t, http.StatusAccepted, "member", http.MethodDelete, "/instances/"+id, "", nil)
	building, _ := w.create(t)
	if rec := w.ask(t, "member", http.MethodDelete, "/instances/"+building, ""); rec.Code != http.StatusUnprocessableEntity {
		t.Errorf("a delete during BUILD: %d", rec.Code)
	}
}

func TestListMgmtInstances(t *testing.T) {
	w := newWorld(t, nil, nil)
	var all []string // the last changed first
	for range 3 {
		w.clock.Add(time.Second)
		all = append([]string{w.built(t)}, all...)
	}
	gone := all[1]
	w.clock.Add(time.Second)
	inTx(t, w.store, func(ctx context.Context, tx store.Tx) error { return tx.DeleteInstance(ctx, gone, w.clock.Now()) })
	ask := func(query string) (ids []string, next string) {
		t.Helper()
		var page wire.MgmtInstanceList
		w.must(t, http.StatusOK, "admin_other", http.MethodGet, "/mgmt/instances"+query, "", &page)
		for _, i := range page.Instances {
			ids = append(ids, i.ID)
			if i.Deleted != (i.ID == gone) || (i.DeletedAt == nil) == i.Deleted || (i.Server == nil) != i.Deleted {
				t.Errorf("%s: %+v", query, i)
			}
		}
		if len(page.Links) > 0 {
			next = page.Links[0].Href
		}
		return ids, next
	}
	for query, want := range map[string][]string{
		"":               {gone, all[0], all[2]},
		"?deleted=false": {all[0], all[2]},
		"?deleted=False": {all[0], all[2]}, // as the official client writes it
		"?deleted=true":  {gone},
		"?deleted=false&include_clustered=False&project_id=" + project: {all[0], all[2]},
		"?project_id=" + projectOther:                                  nil,
		"?limit=2":                                                     {gone, all[0]},
		"?limit=2&marker=2":                                            {all[2]},
	} {
		got, next := ask(query)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", query, diff)
		}
		if (next != "") != (query == "?limit=2") || next != "" && !strings.HasSuffix(next, "limit=2&marker=2") {
			t.Errorf("%s: the next page is %q", query, next)
		}
	}
	for _, query := range []string{"?limit=0", "?limit=x", "?marker=x", "?marker=-1", "?deleted=maybe", "?include_clustered=x", "?marker=99999999999999999999"} {
		if rec := w.ask(t, "admin", http.MethodGet, "/mgmt/instances"+query, ""); rec.Code != http.StatusBadRequest {
			t.Errorf("%s: %d", query, rec.Code)
		}
	}
	var body wire.MgmtInstanceBody
	w.must(t, http.StatusOK, "admin", http.MethodGet, "/mgmt/instances/"+gone+"?deleted=true", "", &body)
	if !body.Instance.Deleted || body.Instance.ServiceStatus != "DELETED" {
		t.Errorf("%+v", body.Instance)
	}
	if rec := w.ask(t, "admin", http.MethodGet, "/mgmt/instances/"+gone, ""); rec.Code != http.StatusNotFound {
		t.Errorf("a deleted one without asking for it: %d", rec.Code)
	}
}

func TestGuestQuestions(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	at := "/mgmt/instances/" + id
	w.must(t, http.StatusNoContent, "admin", http.MethodGet, at+"/rpc_ping", "", nil)
	for path, want := range map[string]string{
		"/hwinfo":      `{"hwinfo":{"mem_total":2097152,"num_cpus":1}}`,
		"/diagnostics": `{"diagnostics":{"version":"1.3.0","threads":9,"fdSize":64,"vmSize":1300,"vmPeak":1400,"vmRss":20,"vmHwm":30}}`,
		"/root":        `{"root_history":{"id":"` + id + `","enabled":"Never","user":"Nobody"}}`,
	} {
		if rec := w.must(t, http.StatusOK, "admin", http.MethodGet, at+path, "", nil); rec.Body.String() != want {
			t.Errorf("%s: %s", path, rec.Body)
		}
	}
	w.must(t, http.StatusOK, "member", http.MethodPost, "/instances/"+id+"/root", "", nil)
	var root wire.RootHistoryBody
	w.must(t, http.StatusOK, "admin", http.MethodGet, at+"/root", "", &root)
	if root.RootHistory.User != "u-member" || root.RootHistory.Enabled != w.clock.Now().Format(wire.Layout) {
		t.Errorf("%+v", root)
	}
	w.guests.down = true
	for _, path := range []string{"/rpc_ping", "/hwinfo", "/diagnostics"} {
		if rec := w.ask(t, "admin", http.MethodGet, at+path, ""); rec.Code != http.StatusServiceUnavailable {
			t.Errorf("%s of a guest that is away: %d", path, rec.Code)
		}
	}
}

func TestUpgradeByTrovesName(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	path := "/mgmt/instances/" + id + "/upgrade"
	if rec := w.ask(t, "admin", http.MethodPost, path, `{"upgrade":{"instance_version":"1.2.3","location":"http://x"}}`); rec.Code != http.StatusBadRequest {
		t.Errorf("a program from elsewhere: %d", rec.Code)
	}
	w.must(t, http.StatusAccepted, "admin", http.MethodPost, path, `{"upgrade":{"instance_version":"1.2.3","location":null,"metadata":null}}`, nil)
	if row, _ := w.openOperation(t, id); row.Kind != trove.OpUpgradeAgent || string(row.Input) != `{"version":"1.2.3"}` {
		t.Errorf("%s %s", row.Kind, row.Input)
	}
}

// manyHosts is a cloud that finds hosts of several machines at once, or is away.
type manyHosts struct {
	*fakeCatalog
	away  error
	asked [][]string
}

func (m *manyHosts) MachineHosts(_ context.Context, ids []string) (map[string]string, error) {
	m.asked = append(m.asked, ids)
	return map[string]string{ids[0]: "compute-7"}, m.away
}

func TestHostsOfAListAreAskedForAtOnce(t *testing.T) {
	many := &manyHosts{}
	w := newWorld(t, nil, func(c *api.Config) {
		many.fakeCatalog, _ = c.Catalog.(*fakeCatalog)
		c.Catalog = many
	})
	w.built(t)
	w.built(t)
	var list wire.MgmtInstanceList
	w.must(t, http.StatusOK, "admin", http.MethodGet, "/mgmt/instances", "", &list)
	hosts := map[wire.Nullable]int{}
	for _, i := range list.Instances {
		hosts[i.Server.Host]++
	}
	if len(many.asked) != 1 || len(many.asked[0]) != 2 || hosts["compute-7"] != 1 || hosts[""] != 1 {
		t.Errorf("asked for %v, shown %v", many.asked, hosts)
	}
}

func TestInstancesAreShownWhileTheCloudIsAway(t *testing.T) {
	many := &manyHosts{away: trove.Errorf(trove.KindUnavailable, "Nova cannot be reached.")}
	w := newWorld(t, nil, func(c *api.Config) {
		many.fakeCatalog, _ = c.Catalog.(*fakeCatalog)
		c.Catalog = many
	})
	id := w.built(t)
	for _, path := range []string{"/mgmt/instances", "/mgmt/instances/" + id} {
		w.must(t, http.StatusOK, "admin", http.MethodGet, path, "", nil)
	}
	if len(many.asked) != 2 {
		t.Errorf("the cloud was asked for %v", many.asked)
	}
}

// TestTrap14OnlyWhatTerraformWaitsFor: between the moment that an instance is asked to be deleted and the moment that it is gone it is SHUTDOWN, whatever an
// administrator did to it before.
func TestTrap14OnlyWhatTerraformWaitsFor(t *testing.T) {
	for _, body := range []string{`{"stop":{}}`, `{"reboot":{}}`, `{"migrate":{}}`} {
		w := newWorld(t, nil, nil)
		id := w.built(t)
		w.must(t, http.StatusAccepted, "admin", http.MethodPost, "/mgmt/instances/"+id+"/action", body, nil)
		w.must(t, http.StatusAccepted, "member", http.MethodDelete, "/instances/"+id, "", nil)
		var shown wire.InstanceBody
		w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+id, "", &shown)
		if shown.Instance.Status != "SHUTDOWN" {
			t.Errorf("%s: the status is %s", body, shown.Instance.Status)
		}
	}
}

// TestPathsThatAreNotThere: removed from Trove or never there, and asked for by clients: 404 and never 500, whatever the method.
func TestPathsThatAreNotThere(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.addLab(t)
	for _, path := range []string{
		"/security-groups", "/security-groups/1", "/security-group-rules", "/security-group-rules/1", "/mgmt/hosts", "/mgmt/hosts/h", "/mgmt/hosts/h/instances/action",
		"/mgmt/storage", "/mgmt/accounts", "/mgmt/accounts/1", "/mgmt/flavors", "/volume-types", "/volume-types/1", "/instances/" + labID + "/metadata",
		"/instances/" + labID + "/metadata/k", "/mgmt/datastores/mysql/versions/5.7.29/members", "/mgmt/datastores/mysql/versions/5.7.29/members/1",
		"/instances/" + labID + "/ssl/rollback", "/schedules", "/schedules/1", "/mgmt/instances/" + labID + "/nothing", "/extensions/nope", "/extensions/mysql",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
			for _, token := range []string{"member", "admin"} {
				rec := w.ask(t, token, method, path, "")
				if rec.Code != http.StatusNotFound || message(t, rec) != "The resource could not be found." {
					t.Errorf("%s %s as %s: %d %s", method, path, token, rec.Code, rec.Body)
				}
			}
		}
	}
}

func TestExtensions(t *testing.T) {
	w := newWorld(t, nil, nil)
	var all wire.ExtensionList
	rec := w.must(t, http.StatusOK, "member", http.MethodGet, "/extensions", "", &all)
	if len(all.Extensions) != 2 || !strings.Contains(rec.Body.String(), `"links":[]`) {
		t.Errorf("%s", rec.Body)
	}
	for _, e := range all.Extensions {
		var one wire.ExtensionBody
		w.must(t, http.StatusOK, "member", http.MethodGet, "/extensions/"+e.Alias, "", &one)
		if diff := cmp.Diff(e, one.Extension); diff != "" {
			t.Error(diff)
		}
	}
}
