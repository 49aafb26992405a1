package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client/cli"
)

const (
	shopID = "0a8e5f2c-3b51-4b0e-9d5e-0c1f7a3d2b11"
	oldID  = "7c1d9e44-52aa-4f6f-8a3b-9e2f1d0c4b22"
	opID   = "5d7f1f0c-8f52-4a3e-9a44-0f6f3f2f7a10"
)

var epoch = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// fakeAPI is an Identity and a database service with fixed contents that notes what changes are asked for.
type fakeAPI struct {
	mux *http.ServeMux

	mu      sync.Mutex
	changes []string                                 // "METHOD path body"
	polls   func(since string) (wire.Operation, int) // the operation that is watched
}

func newFakeAPI() *fakeAPI {
	f := &fakeAPI{mux: http.NewServeMux()}
	f.mux.HandleFunc("POST /identity/v3/auth/tokens", f.login)
	f.gets()
	change := func(w http.ResponseWriter, r *http.Request) { f.change(w, r, nil) }
	for _, pattern := range []string{
		"PUT /v1.0/p/instances/" + shopID, "DELETE /v1.0/p/instances/{id}", "POST /v1.0/p/instances/" + shopID + "/", "PUT /v1.0/p/instances/" + shopID + "/",
		"DELETE /v1.0/p/instances/" + shopID + "/", "POST /v1.0/p/mgmt/instances/" + shopID + "/action", "PUT /v1.0/p/mgmt/quotas/{project}",
		"PUT /v1.0/p/configurations/{id}", "PATCH /v1.0/p/configurations/{id}", "DELETE /v1.0/p/configurations/{id}",
		"DELETE /v1.0/p/datastores/{datastore}",
		"POST /v1.0/p/mgmt/datastore-versions", "PATCH /v1.0/p/mgmt/datastore-versions/{id}", "DELETE /v1.0/p/mgmt/datastore-versions/{id}",
	} {
		f.mux.HandleFunc(pattern, change)
	}
	f.parts()
	f.mux.HandleFunc("POST /v1.0/p/instances", func(w http.ResponseWriter, r *http.Request) {
		i := shop()
		i.Status, i.Addresses = "BUILD", nil
		f.change(w, r, wire.InstanceBody{Instance: i})
	})
	f.mux.HandleFunc("POST /v1.0/p/configurations", func(w http.ResponseWriter, r *http.Request) {
		f.change(w, r, wire.ConfigurationGroupBody{Configuration: busy()})
	})
	f.mux.HandleFunc("POST /v1.0/p/instances/"+shopID+"/root", func(w http.ResponseWriter, r *http.Request) {
		f.change(w, r, wire.RootBody{User: wire.RootUser{Name: "root", Password: "made-by-server"}})
	})
	return f
}

func (f *fakeAPI) login(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Subject-Token", "t")
	w.WriteHeader(http.StatusCreated)
	_, _ = fmt.Fprintf(w, `{"token":{"expires_at":"2126-01-01T00:00:00.000000Z","project":{"id":"p"},"catalog":[{"type":"database","endpoints":[{"interface":"public","region":"R","url":"http://%s/v1.0/p"}]}]}}`, r.Host)
}

func (f *fakeAPI) change(w http.ResponseWriter, r *http.Request, answer any) {
	body, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	f.changes = append(f.changes, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+string(body)))
	f.mu.Unlock()
	w.Header().Set(wire.HeaderOperation, opID)
	w.WriteHeader(http.StatusAccepted)
	if answer != nil {
		_ = json.NewEncoder(w).Encode(answer)
	}
}

func (f *fakeAPI) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.changes...)
}

func (f *fakeAPI) gets() {
	get := func(path string, body any) {
		f.mux.HandleFunc("GET /v1.0/p"+path, func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(body) })
	}
	stores := datastores()
	get("/instances", wire.InstanceList{Instances: []wire.Instance{shop(), broken()}})
	get("/instances/"+shopID, wire.InstanceBody{Instance: shop()})
	get("/instances/"+oldID, wire.InstanceBody{Instance: broken()})
	get("/mgmt/agents", wire.AgentList{Agents: []wire.Agent{
		{InstanceID: shopID, InstanceName: "shop", ProjectID: "p", Version: "1.2.0", Seen: epoch, Running: true},
		{InstanceID: oldID, InstanceName: "old", ProjectID: "q", Version: "1.1.0", Seen: epoch.Add(-time.Hour)},
	}})
	get("/mgmt/audit", wire.AuditList{Audit: []wire.AuditRecord{{
		ID: "00064f1e2d3c4b-1", EventTime: epoch, Action: "deleteInstance", Outcome: "success", Reason: wire.AuditReason{ReasonCode: "202"},
		Initiator: wire.AuditInitiator{ID: "u1", Name: "ada", ProjectID: "p", Roles: []string{"member"}, Host: wire.AuditHost{Address: "198.51.100.7"}},
		Target:    wire.AuditTarget{ID: shopID, TypeURI: "service/database/instance"}, RequestID: "req-1", Method: "DELETE", RequestPath: "/v1.0/p/instances/" + shopID,
	}, {EventTime: epoch, Action: "", Outcome: "failure", Reason: wire.AuditReason{ReasonCode: "401"}, Method: "POST", RequestPath: "/v1.0/p/instances"}}})
	at := "/instances/" + shopID
	f.mux.HandleFunc("GET /v1.0/p"+at+"/upgrade", func(w http.ResponseWriter, r *http.Request) {
		u := wire.Upgrade{Kept: &wire.KeptData{DatastoreVersion: "10.6", DatastoreVersionID: opID, Since: wire.Time(epoch), Bytes: 1 << 30}}
		if v := r.URL.Query().Get("datastore_version"); v != "" {
			u.Check = &wire.UpgradeCheck{
				DatastoreVersion: v, From: "10.11", Programs: "10.11.14", Bytes: 1 << 30, Free: 2 << 30, Reflink: true,
				Possible: true, Findings: []wire.UpgradeFinding{{Sentence: "A table is rebuilt."}},
			}
		}
		_ = json.NewEncoder(w).Encode(wire.UpgradeBody{Upgrade: u})
	})
	get(at+"/operations", wire.OperationList{Operations: []wire.Operation{operation()}})
	f.mux.HandleFunc("GET /v1.0/p"+at+"/events", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(eventsAfter(r.URL.Query().Get("marker")))
	})
	f.mux.HandleFunc("GET /v1.0/p"+at+"/operations/"+opID, func(w http.ResponseWriter, r *http.Request) {
		op := operation()
		if f.polls != nil {
			status := 0
			if op, status = f.polls(r.URL.Query().Get("since")); status != 0 {
				w.WriteHeader(status)
				return
			}
		}
		_ = json.NewEncoder(w).Encode(wire.OperationBody{Operation: op})
	})
	get(at+"/databases", wire.DatabaseList{Databases: []wire.Database{{Name: "orders"}, {Name: "invoices"}}})
	app := wire.User{Name: "app", Host: "10.0.0.7", Databases: []wire.Database{{Name: "orders"}, {Name: "invoices"}}}
	get(at+"/users", wire.UserList{Users: []wire.User{app, {Name: "idle", Host: "%", Databases: []wire.Database{}}}})
	get(at+"/users/app@10.0.0.7", wire.UserBody{User: app})
	errorLog := wire.Log{
		Name: "error", Type: "SYS", Status: "Partial", Published: 2048, Pending: 100, Container: "database_logs", Prefix: shopID + "/mariadb-error/",
		Metafile: shopID + "/mariadb-error_metafile",
	}
	get(at+"/log", wire.LogList{Logs: []wire.Log{errorLog, {Name: "general", Type: "USER", Status: "Disabled", Container: "None", Prefix: "None"}}})
	f.mux.HandleFunc("POST /v1.0/p"+at+"/log", func(w http.ResponseWriter, r *http.Request) { f.change(w, r, wire.LogBody{Log: errorLog}) })
	f.figures(at)
	get(at+"/log/error/objects", wire.LogObjectList{Objects: []wire.LogObject{
		{Name: shopID + "/mariadb-error/log-1/00001", Size: 2048, Lines: 20, SHA256: "ab", Published: wire.Time(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))},
	}})
	f.mux.HandleFunc("GET /v1.0/p"+at+"/log/error/contents", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, "mariadbd: ready for connections\n")
	})
	f.managed(get)
	get(at+"/root", wire.RootEnabled{RootEnabled: true})
	listed := busy()
	listed.Values, listed.InstanceCount = nil, nil
	get("/configurations", wire.ConfigurationGroupList{Configurations: []wire.ConfigurationGroup{listed}})
	get("/configurations/"+groupID, wire.ConfigurationGroupBody{Configuration: busy()})
	get("/configurations/"+groupID+"/instances", wire.ConfiguredInstanceList{Instances: []wire.ConfiguredInstance{{ID: shopID, Name: "shop"}}})
	get(at+"/configuration", wire.DefaultConfigurationBody{Instance: wire.DefaultConfiguration{Configuration: map[string]any{"port": 3306, "key_buffer_size": "2M"}, Drift: []wire.Difference{{Name: "max_connections", Wanted: "500", Actual: "5"}}}})
	rule := wire.Parameter{Name: "max_connections", Type: "integer", Min: number("10"), Max: number("100000")}
	get("/datastores/mariadb/versions/10.11/parameters", wire.ParameterList{Parameters: []wire.Parameter{rule, {Name: "sql_mode", Type: "string"}}})
	get("/datastores/mariadb/versions/10.11/parameters/max_connections", rule)
	get("/datastores/versions/v-1/parameters", wire.ParameterList{Parameters: []wire.Parameter{rule}})
	get("/datastores", wire.DatastoreList{Datastores: stores})
	get("/datastores/mariadb", wire.DatastoreBody{Datastore: stores[0]})
	version := stores[0].Versions[0]
	version.Datastore, version.Active, version.Image = stores[0].ID, new(true), new("3f0c9a51-6b1d-4c57-8f6f-0d1f0a3c9a51")
	get("/datastores/mariadb/versions/10.11", wire.DatastoreVersionBody{Version: version})
	get("/flavors", wire.FlavorList{Flavors: []wire.Flavor{
		{StrID: "1", Name: "db.tiny", RAM: 512, VCPUs: 1, Disk: 5}, {StrID: "2", Name: "db.small", RAM: 2048, VCPUs: 2, Disk: 10},
	}})
	get("/limits", limits())
	get("/mgmt/host-status", wire.HostList{Hosts: []wire.Host{host()}})
	get("/mgmt/quotas/{project}", wire.QuotaList{Quotas: []wire.Quota{
		{Resource: "instances", InUse: 1, Limit: 10}, {Resource: "ram", InUse: 512, Reserved: 128, Limit: -1},
	}})
	f.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = fmt.Fprintf(w, `{"itemNotFound":{"code":404,"message":"%s cannot be found."}}`, r.URL.Path)
	})
}

const groupID = "3c0f6d1e-7a52-4f2b-8c1d-5e9a0b7d4f33"

func number(text string) *json.Number {
	n := json.Number(text)
	return &n
}

func busy() wire.ConfigurationGroup {
	return wire.ConfigurationGroup{
		ID: groupID, Name: "busy", Values: &map[string]any{"max_connections": 500, "sql_mode": "ANSI"}, Created: wire.Time(epoch), Updated: wire.Time(epoch),
		InstanceCount: new(1), DatastoreName: "mariadb", DatastoreVersionID: "v-1", DatastoreVersionName: "10.11", DatastoreVersionNumber: "10.11.6",
	}
}

func host() wire.Host {
	const gib = 1 << 30
	return wire.Host{
		Name: "machine-1", Memory: wire.Amount{Total: 64 * gib, Promised: 80 * gib, Used: 12 * gib, Left: 50 * gib}, Cores: wire.Amount{Total: 16, Promised: 9},
		Volumes: wire.Amount{Total: 900 * gib, Promised: 850 * gib, Used: 850 * gib, Left: 50 * gib}, Addresses: wire.Amount{Total: 4093, Used: 7, Left: 4086},
		Pool: wire.HostPool{Overcommit: 1, Reserved: true, Free: 51 * gib, StopMark: gib}, Running: 6, Stopped: 1, Loops: 7,
		Warnings: []wire.HostWarning{
			{Of: "memory", Sentence: "Instances may use 80 GiB together, more than the machine has: 64 GiB."},
			{Of: "volumes", Sentence: "Only 50 GiB of 900 GiB are left for volumes."},
		},
	}
}

func encode(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }

func shop() wire.Instance {
	return wire.Instance{
		ID: shopID, Name: "shop", Status: "ACTIVE", OperatingStatus: "HEALTHY", Region: "R", Flavor: wire.FlavorRef{ID: "1"},
		Datastore: wire.DatastoreRef{Type: new("mariadb"), Version: new("10.11")},
		Access:    wire.Access{IsPublic: new(true), AllowedCIDRs: []string{"10.0.0.0/8", "192.0.2.7/32"}},
		Volume:    &wire.Volume{Size: 20, Used: new(1.5)}, Replicas: []wire.InstanceRef{{ID: oldID}},
		Addresses: []wire.Address{{Address: "10.0.0.5", Type: "private"}, {Address: "198.51.100.5", Type: "public", Port: 20017}},
		Created:   new(wire.Time(epoch)), Updated: new(wire.Time(epoch.Add(time.Minute))),
	}
}

// broken has all that may be absent absent.
func broken() wire.Instance {
	return wire.Instance{
		ID: oldID, Name: "altes Lager", Status: "ERROR", OperatingStatus: "", Flavor: wire.FlavorRef{ID: "2"}, Volume: &wire.Volume{Size: 5},
		Fault: &wire.InstanceFault{Message: "The volume could not be attached.", Created: wire.Time(epoch)},
	}
}

func operation() wire.Operation {
	return wire.Operation{
		ID: opID, Kind: "instance.restart", InstanceID: shopID, State: "done", Step: "engine", Percent: 100, Sentence: "The engine answers.",
		Created: epoch, Updated: epoch.Add(2500 * time.Millisecond), Version: 4,
		Events: []wire.OperationEvent{
			{Seq: 1, At: epoch, Step: "engine", Outcome: "started"},
			{Seq: 2, At: epoch.Add(2500 * time.Millisecond), Step: "engine", Outcome: "done", Sentence: "The engine answers."},
		},
	}
}

func datastores() []wire.Datastore {
	return []wire.Datastore{
		{ID: "ds-1", Name: "mariadb", DefaultVersion: "v-2", Versions: []wire.DatastoreVersion{
			{ID: "v-1", Name: "10.11", Version: "10.11.6"}, {ID: "v-2", Name: "11.8", Version: "11.8.2"},
		}},
		{ID: "ds-2", Name: "postgresql"},
	}
}

func limits() wire.Limits {
	return wire.Limits{Limits: []wire.Limit{
		{Verb: "ABSOLUTE", MaxInstances: new(10), MaxRAM: new(-1)},
		{Verb: "POST", URI: "*", Unit: "MINUTE", Value: new(200), Remaining: new(199)},
	}}
}

// RoundTrip lets a client talk to the service without a network.
func (f *fakeAPI) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	if r.Body == nil {
		r.Body = http.NoBody
	}
	r.Host = r.URL.Host
	f.mux.ServeHTTP(w, r)
	return w.Result(), nil
}

// shell runs commands against a service.
type shell struct {
	env            cli.Env
	vars           map[string]string
	stdin          string
	stdout, stderr bytes.Buffer
}

func newShell(f http.RoundTripper) *shell {
	s := &shell{vars: map[string]string{
		"OS_AUTH_URL": "http://cloud.test/identity/v3", "OS_USERNAME": "u", "OS_PASSWORD": "pw", "OS_PROJECT_NAME": "p",
	}}
	s.env = cli.Env{
		Stdout: &s.stdout, Stderr: &s.stderr, Getenv: func(n string) string { return s.vars[n] }, HTTP: &http.Client{Transport: f},
		LookPath: func(string) (string, error) { return "", fmt.Errorf("not installed") },
		Exec:     func(string, []string, []string) error { return fmt.Errorf("nothing should be started") },
		Output: func(context.Context, string, ...string) (string, error) {
			return "", fmt.Errorf("nothing should be run")
		},
	}
	return s
}

// command returns the whole program's tree, as cmd/trove makes it.
func (s *shell) command() *cobra.Command {
	s.env.Stdin = strings.NewReader(s.stdin)
	root := &cobra.Command{
		Use: "trove", SilenceUsage: true, SilenceErrors: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cli.AddCommands(root, s.env)
	root.SetOut(&s.stdout)
	root.SetErr(&s.stderr)
	return root
}

// run runs one command and returns its error. The outputs of earlier ones are dropped.
func (s *shell) run(t *testing.T, args ...string) error {
	t.Helper()
	s.stdout.Reset()
	s.stderr.Reset()
	root := s.command()
	root.SetArgs(args)
	return root.ExecuteContext(t.Context())
}

// must is run for a command that should work; it returns the standard output.
func (s *shell) must(t *testing.T, args ...string) string {
	t.Helper()
	if err := s.run(t, args...); err != nil {
		t.Fatalf("trove %s: %v", strings.Join(args, " "), err)
	}
	return s.stdout.String()
}

func asking(answer trove.Secret, prompts *[]string) func(string) (trove.Secret, error) {
	return func(prompt string) (trove.Secret, error) {
		*prompts = append(*prompts, prompt)
		return answer, nil
	}
}

// eventsAfter are two pages of a timeline.
func eventsAfter(marker string) wire.InstanceEventList {
	first := epoch.Add(-time.Minute)
	all := []wire.InstanceEvent{
		{ID: "1", At: epoch, Kind: "operation.done", Sentence: "The volume is there.", Count: 1, OperationID: opID, Operation: "instance.create", Step: "volume"},
		{ID: "2", At: epoch.Add(time.Second), Kind: "engine.failed", Sentence: "The database ended by signal 9.", Details: "line 1\nline 2", Count: 17, First: &first},
	}
	switch marker {
	case "":
		return wire.InstanceEventList{Events: all[:1], Links: []wire.Link{{Rel: "next", Href: "http://x/?marker=1"}}}
	case "1":
		return wire.InstanceEventList{Events: all[1:]}
	}
	return wire.InstanceEventList{Events: []wire.InstanceEvent{}}
}
