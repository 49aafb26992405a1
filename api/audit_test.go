package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/store"
)

func (w *world) audit(t testing.TB) []trove.AuditRecord {
	t.Helper()
	all, err := w.store.AuditRecords(t.Context(), store.AuditFilter{})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestEveryChangingCallLeavesARecord(t *testing.T) {
	w := newWorld(t, map[string]int{trove.QuotaInstances: 1}, nil)
	w.addLab(t)
	lab := "/instances/" + labID
	for _, c := range []struct {
		token, method, path, body string
		want                      string
	}{
		{"member", "POST", "/instances", minimalCreate, "u-member createInstance instance 200 op"},
		{"member", "POST", "/instances", minimalCreate, "u-member createInstance   413"},
		{"member", "POST", "/instances", `{}`, "u-member createInstance   400"},
		{"nobody", "POST", "/instances", minimalCreate, "    401"},
		{"member", "POST", lab + "/databases", `{"databases":[{"name":"ab"}]}`, "u-member createDatabases instance 202"},
		{"member", "DELETE", lab + "/databases/zz", "", "u-member deleteDatabase instance 404"},
		{"member", "PUT", "/mgmt/quotas/" + project, `{"quotas":{"ram":1}}`, "u-member updateQuotas tenant 401"},
		{"admin", "PUT", "/mgmt/quotas/" + projectOther, `{"quotas":{"ram":1}}`, "u-admin updateQuotas tenant 200"},
		{"member", "POST", lab + "/root", "", "u-member enableRoot instance 200"},
		{"member", "PATCH", "/nothing", "", "u-member    404"},
		{"member", "DELETE", lab, "", "u-member deleteInstance instance 202 op"},
		{"other", "DELETE", lab, "", "u-other deleteInstance instance 404"},
		{"member", "GET", lab, "", ""},
	} {
		before := len(w.audit(t))
		w.clock.Add(time.Second)
		rec := w.ask(t, c.token, c.method, c.path, c.body)
		all := w.audit(t)
		if c.want == "" {
			if len(all) != before {
				t.Errorf("%s %s left a record", c.method, c.path)
			}
			continue
		}
		if len(all) != before+1 {
			t.Fatalf("%s %s left %d records", c.method, c.path, len(all)-before)
		}
		a := all[0]
		got := strings.Join([]string{a.UserID, a.Action, a.TargetType, fmt.Sprint(a.Status)}, " ")
		if op := rec.Header().Get(wire.HeaderOperation); op != "" && a.OperationID == op {
			got += " op"
		}
		if strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(c.want), " ") {
			t.Errorf("%s %s: got %q, want %q", c.method, c.path, got, c.want)
		}
		if a.RequestID != rec.Header().Get(wire.HeaderRequestID) || a.Method != c.method || !strings.HasSuffix(a.Path, c.path) || a.Remote != "192.0.2.1" ||
			a.At() != w.clock.Now() {
			t.Errorf("%+v", a)
		}
	}
}

func TestAuditTellsWhatWasMade(t *testing.T) {
	w := newWorld(t, nil, nil)
	id, op := w.create(t)
	a := w.audit(t)[0]
	if a.TargetID != id || a.TargetType != "instance" || a.OperationID != op {
		t.Errorf("%+v", a)
	}
}

// The answer to a new datastore version is empty; the record says which one it is. There is none where it was refused.
func TestAuditNamesANewDatastoreVersion(t *testing.T) {
	w := newWorld(t, nil, nil)
	body := `{"version":{"name":"8.4","datastore_name":"mysql","datastore_manager":"mysql","image":"` + imageID + `","active":true}}`
	w.must(t, http.StatusAccepted, "admin", http.MethodPost, "/mgmt/datastore-versions", body, nil)
	a := w.audit(t)[0]
	if v, err := w.store.DatastoreVersion(t.Context(), a.TargetID); err != nil || v.Name != "8.4" || a.TargetType != "version" {
		t.Errorf("%+v: %+v %v", a, v, err)
	}
	w.clock.Add(time.Second)
	w.must(t, http.StatusBadRequest, "admin", http.MethodPost, "/mgmt/datastore-versions", body, nil)
	if a := w.audit(t)[0]; a.TargetID != "" || a.Status != http.StatusBadRequest {
		t.Errorf("%+v", a)
	}
}

// A change and its record are one commit: a store that fails leaves neither.
func TestChangeAndRecordAreOneCommit(t *testing.T) {
	w := newWorld(t, nil, nil)
	counted := &countingStore{Store: w.store}
	cfg := w.config
	cfg.Store = counted
	h, err := api.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.handler = h
	w.create(t)
	if n := counted.n.Load(); n != 1 {
		t.Errorf("%d commits for an instance", n)
	}
	counted.fail = true
	w.must(t, http.StatusInternalServerError, "member", http.MethodPost, "/instances", minimalCreate, nil)
	if a, i := w.audit(t), w.instances(t); len(a) != 1 || len(i) != 1 {
		t.Errorf("%d records, %d instances", len(a), len(i))
	}
}

// countingStore counts transactions; it can fail them.
type countingStore struct {
	store.Store
	n    atomic.Int64
	read atomic.Int64 // how many instances were looked for
	fail bool
	wait chan struct{} // not nil: the first one waits for it
}

func (c *countingStore) InTx(ctx context.Context, fn func(context.Context, store.Tx) error) error {
	if c.fail {
		return errors.New("disk I/O error")
	}
	if c.n.Add(1) == 1 && c.wait != nil {
		<-c.wait
	}
	return c.Store.InTx(ctx, fn)
}

func (c *countingStore) Instance(ctx context.Context, id string) (trove.Instance, error) {
	defer c.read.Add(1)
	return c.Store.Instance(ctx, id)
}

// Refused calls that come together share commits.
func TestRefusedCallsShareCommits(t *testing.T) {
	w := newWorld(t, nil, nil)
	counted := &countingStore{Store: w.store, wait: make(chan struct{})}
	cfg := w.config
	cfg.Store = counted
	h, err := api.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.handler = h
	const calls = 50
	var wg sync.WaitGroup
	for range calls {
		wg.Go(func() { w.ask(t, "member", http.MethodDelete, "/instances/"+absentID, "") })
	}
	for deadline := time.Now().Add(time.Minute); counted.read.Load() < calls && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond) //nolint:forbidigo // until all are about to be refused
	}
	time.Sleep(500 * time.Millisecond) //nolint:forbidigo // lets them wait for the first one's commit
	close(counted.wait)
	wg.Wait()
	if n, all := counted.n.Load(), len(w.audit(t)); all != calls || n > calls/2 {
		t.Errorf("%d records in %d commits", all, n)
	}
}

// Who has no token cannot fill the table.
func TestStrangersCannotFillTheAudit(t *testing.T) {
	w := newWorld(t, nil, nil)
	for range 300 {
		w.ask(t, "nobody", http.MethodDelete, "/instances/"+absentID, "")
	}
	if n := len(w.audit(t)); n != 120 {
		t.Errorf("%d records of calls without a token", n)
	}
	w.clock.Add(time.Second)
	w.ask(t, "nobody", http.MethodDelete, "/instances/"+absentID, "")
	w.ask(t, "member", http.MethodDelete, "/instances/"+absentID, "")
	if n := len(w.audit(t)); n != 122 {
		t.Errorf("%d records", n)
	}
}

// No password and no token is in the records or in the log.
func TestAuditHoldsNoSecret(t *testing.T) {
	var log bytes.Buffer
	w := newWorld(t, nil, func(c *api.Config) {
		c.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	w.addLab(t)
	w.must(t, http.StatusAccepted, "member", http.MethodPost, "/instances/"+labID+"/users", `{"users":[{"name":"u9","password":"hunter2-xyz"}]}`, nil)
	w.must(t, http.StatusOK, "member", http.MethodPost, "/instances/"+labID+"/root", `{"password":"hunter2-xyz"}`, nil)
	text := fmt.Sprintf("%+v %s", w.audit(t), log.String())
	if strings.Contains(text, "hunter2") || !strings.Contains(log.String(), "msg=audit") || !strings.Contains(log.String(), "action=createUsers") {
		t.Errorf("%s", text)
	}
}

func TestAuditIsListedByAdministrators(t *testing.T) {
	w := newWorld(t, nil, func(c *api.Config) { c.PageSize = 2 })
	w.addLab(t)
	start := w.clock.Now()
	for n := range 3 {
		w.clock.Add(time.Second)
		w.must(t, http.StatusAccepted, "member", http.MethodPost, "/instances/"+labID+"/databases", fmt.Sprintf(`{"databases":[{"name":"d%d"}]}`, n), nil)
	}
	w.clock.Add(time.Second)
	w.ask(t, "other", http.MethodDelete, "/instances/"+labID, "")
	w.must(t, http.StatusForbidden, "member", http.MethodGet, "/mgmt/audit", "", nil)
	var seen []string
	next := "/mgmt/audit"
	for next != "" {
		var page wire.AuditList
		w.must(t, http.StatusOK, "admin", http.MethodGet, next, "", &page)
		for _, a := range page.Audit {
			seen = append(seen, a.Initiator.ID+" "+a.Action+" "+a.Outcome+" "+a.Reason.ReasonCode+" "+a.Target.TypeURI)
		}
		next = ""
		for _, l := range page.Links {
			_, next, _ = strings.Cut(l.Href, project)
		}
	}
	const made = "u-member createDatabases success 202 service/database/instance"
	if d := cmp.Diff([]string{"u-other deleteInstance failure 404 service/database/instance", made, made, made}, seen); d != "" {
		t.Error(d)
	}
	for query, want := range map[string]int{
		"?project=" + projectOther: 1, "?user=u-member": 2, "?instance=" + labID: 2, "?target=" + absentID: 0, "?method=DELETE": 1, "?outcome=failure": 1,
		"?until=" + start.Add(2*time.Second).Format(time.RFC3339): 1, "?since=" + start.Add(3*time.Second).Format(wire.Layout): 2,
	} {
		var page wire.AuditList
		w.must(t, http.StatusOK, "admin", http.MethodGet, "/mgmt/audit"+query, "", &page)
		if len(page.Audit) != want {
			t.Errorf("%s: %d records, want %d", query, len(page.Audit), want)
		}
	}
	for _, query := range []string{"?outcome=maybe", "?since=yesterday", "?until=1", "?target=a&instance=b"} {
		w.must(t, http.StatusBadRequest, "admin", http.MethodGet, "/mgmt/audit"+query, "", nil)
	}
}

func TestAuditIsPruned(t *testing.T) {
	w := newWorld(t, nil, nil)
	for range 10 {
		w.clock.Add(time.Hour)
		w.ask(t, "member", http.MethodDelete, "/instances/"+absentID, "")
	}
	for _, c := range []struct {
		keep api.Retention
		want int
	}{{api.Retention{}, 0}, {api.Retention{AuditAge: 6*time.Hour + time.Minute}, 3}, {api.Retention{AuditKeep: 5}, 2}} {
		n, _, err := api.Prune(t.Context(), w.store, w.clock.Now(), c.keep)
		if err != nil || n != c.want {
			t.Errorf("%+v: %d, %v", c.keep, n, err)
		}
	}
}

// A client that goes away leaves a record all the same.
func TestCallOfAClientThatIsGoneLeavesARecord(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.addLab(t)
	w.guests.block = make(chan struct{})
	rec := httptest.NewRecorder()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	req := httptest.NewRequestWithContext(ctx, http.MethodPost, "http://x/v1.0/"+project+"/instances/"+labID+"/databases", strings.NewReader(`{"databases":[{"name":"ab"}]}`))
	req.Header.Set("X-Auth-Token", "member")
	req.Header.Set("Content-Type", "application/json")
	w.handler.ServeHTTP(rec, req)
	if all := w.audit(t); len(all) != 1 || all[0].Status != 499 {
		t.Errorf("%+v", all)
	}
}
