package api_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/store"

	_ "modernc.org/sqlite" // looks into the store behind its back
)

// maker makes values from a request's schema: valid ones, and with some luck slightly broken ones.
type maker struct {
	t    *rapid.T
	root map[string]any
	// breaks is how many things may still be broken.
	breaks int
}

func (m *maker) pick(label string, n int) int { return rapid.IntRange(0, n-1).Draw(m.t, label) }

// strange are values that belong nowhere.
var strange = []any{
	nil, true, 0, -1, 1e300, 2.5, "", " ", "%", "\u0000", "ü\u202e", strings.Repeat("a", 300), "../..",
	[]any{},
	[]any{nil},
	map[string]any{},
	map[string]any{"": nil},
	"http://x/1", "10.0.0.0/99", "00000000-0000-0000-0000-000000000000", json.Number("9223372036854775808"),
}

// words are values that fields of our requests like.
var words = []string{
	"db", "orders", "u1", "db1", "2", "3", "lab", "mysql", "8.0.29", "utf8", "utf8_bin", "%", "10.0.0.1", "10.0.0.0/8", "affinity", "error", "slow_query",
	networkID, subnetID, labID, absentID, "correct-horse", "RegionOne", "1.2.3", "Soft",
}

// hints are values that fields of some names need to be accepted.
var hints = map[string][]any{
	"flavorRef": {"2", 3, "http://x/flavors/1"}, "size": {1, "2"}, "type": {"lab", "mysql"}, "version": {"8.0.29"}, "datastore": {map[string]any{"type": "mysql", "version": "8.0.29"}},
	"volume": {map[string]any{"size": 2}, map[string]any{"size": "3", "type": "lab"}}, "region_name": {"RegionOne"}, "availability_zone": {"nova"},
	"nics": {[]any{map[string]any{"net-id": networkID}}, []any{map[string]any{"subnet_id": subnetID}}}, "locality": {"affinity"}, "replica_count": {1},
	"allowed_cidrs": {[]any{"10.0.0.0/8"}}, "databases": {[]any{map[string]any{"name": "db1"}}}, "users": {[]any{map[string]any{"name": "u1", "password": "p"}}},
	"name": {"slow_query", "u1", "orders"}, "publish": {1}, "enable": {1}, "disable": {1}, "discard": {1},
	"module_type": {"ping"}, "contents": {pingContents}, "reset-status": {map[string]any{}}, "reset-task": {map[string]any{}},
	"datastore_manager": {"mysql"}, "datastore_name": {"mysql"}, "image": {imageID}, "data_type": {"string"},
}

// rare are fields that mostly lead to a refusal.
var rare = []string{
	"restorePoint", "replica_of", "slave_of", "configuration", "modules", "slave_count", "datastore_version", "discard", "enable",
	"grow", "shrink", "add_shard", "configuration_attach", "configuration_detach", "all_tenants", "auto_apply", "priority_apply", "full_access",
}

func (m *maker) value(schema map[string]any) any {
	if m.breaks > 0 && m.pick("break", 6) == 0 {
		m.breaks--
		return strange[m.pick("strange", len(strange))]
	}
	if ref, ok := schema["$ref"].(string); ok {
		return m.value(m.resolve(ref))
	}
	for _, key := range []string{"oneOf", "anyOf"} {
		if all, ok := schema[key].([]any); ok {
			merged := map[string]any{}
			for k, v := range schema {
				if k != key {
					merged[k] = v
				}
			}
			maps.Copy(merged, all[m.pick(key, len(all))].(map[string]any))
			return m.value(merged)
		}
	}
	if all, ok := schema["enum"].([]any); ok && len(all) > 0 {
		return all[m.pick("enum", len(all))]
	}
	switch m.kind(schema) {
	case "object":
		return m.object(schema)
	case "array":
		items, _ := schema["items"].(map[string]any)
		out := []any{}
		for range m.pick("items", 3) {
			out = append(out, m.value(items))
		}
		return out
	case "integer", "number":
		return m.pick("integer", 8)
	case "boolean":
		return m.pick("boolean", 2) == 0
	case "null":
		return nil
	}
	return words[m.pick("word", len(words))]
}

func (m *maker) kind(schema map[string]any) string {
	switch kind := schema["type"].(type) {
	case string:
		return kind
	case []any:
		return kind[m.pick("type", len(kind))].(string)
	}
	if schema["properties"] != nil {
		return "object"
	}
	return "string"
}

func (m *maker) object(schema map[string]any) any {
	out := map[string]any{}
	properties, _ := schema["properties"].(map[string]any)
	var required []any
	if r, ok := schema["required"].([]any); ok {
		required = r
	}
	names := make([]string, 0, len(properties))
	for name := range properties {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		needed := slices.Contains(required, any(name))
		if !needed && m.pick("optional", 6) > len(hints[name])*2+1 {
			continue
		}
		if needed && m.breaks > 0 && m.pick("leave out", 12) == 0 {
			m.breaks--
			continue
		}
		if !needed && slices.Contains(rare, name) && m.pick("rare", 8) > 0 {
			continue
		}
		if h := hints[name]; h != nil && m.pick("hint", 4) > 0 {
			out[name] = h[m.pick("which hint", len(h))]
			continue
		}
		sub, _ := properties[name].(map[string]any)
		out[name] = m.value(sub)
	}
	if m.breaks > 0 && m.pick("unknown key", 10) == 0 {
		m.breaks--
		out["unknown"] = 1
	}
	return out
}

// resolve follows a reference within the schema.
func (m *maker) resolve(ref string) map[string]any {
	at := any(m.root)
	for part := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
		at = at.(map[string]any)[part]
	}
	return at.(map[string]any)
}

// contents returns the rows of all tables that a change can reach; what the API leaves behind of every call is not among them.
func contents(t testing.TB, db *sql.DB) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, table := range tables(t, db) {
		if !slices.Contains([]string{"audit_record", "idempotent_call", "goose_db_version"}, table) {
			out[table] = rowsOf(t, db, table)
		}
	}
	return out
}

func rowsOf(t testing.TB, db *sql.DB, table string) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "SELECT * FROM "+table)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close() //nolint:errcheck // Err says more
	columns, _ := rows.Columns()
	var all []string
	for rows.Next() {
		values := make([]any, len(columns))
		for n := range values {
			values[n] = new(any)
		}
		if err := rows.Scan(values...); err != nil {
			t.Fatal(err)
		}
		line := ""
		for n := range values {
			line += fmt.Sprintf("%s=%v ", columns[n], *values[n].(*any))
		}
		all = append(all, line)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

func tables(t testing.TB, db *sql.DB) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), `SELECT name FROM sqlite_master WHERE type='table' AND name NOT LIKE 'sqlite_%' ORDER BY name`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close() //nolint:errcheck // Err says more
	var all []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		all = append(all, name)
	}
	if err := rows.Err(); err != nil || len(all) < 10 {
		t.Fatalf("%d tables: %v", len(all), err)
	}
	return all
}

// there are things of the fixture, by the parameter of a path that they fit.
var there = map[string]string{
	"instance": labID, "id": labID, "user": "u1", "database": "db1", "log": "slow_query", "module": fuzzModule, "cluster": fuzzCluster,
	"configuration": fuzzGroup, "datastore": "mysql", "version": versionID("mysql", "8.0.29"), "parameter": "connect_timeout", "alias": "MYSQL",
}

// neverAccepted are the operations with a body that always refuse, in this release or as in Trove, and the one that needs something that goes on.
var neverAccepted = []string{"actOnOperation", "createBackup", "createCluster", "enableClusterRoot"}

// requestFor makes a request of an operation: its path and its body.
func requestFor(t *rapid.T, op *api.Operation) (path, body string) {
	path = op.Path
	for _, name := range pathParameters(op.Path) {
		candidates := append([]string{labID, absentID, project, "x", "u1", "db1", "2", "mysql", "8.0.29", "slow_query", "%00", "u1@%25"}, versionID("mysql", "8.0.29"))
		if good := there[name]; good != "" && rapid.IntRange(0, 9).Draw(t, "what is there") > 0 {
			candidates = []string{good}
		}
		path = strings.Replace(path, "{"+name+"}", rapid.SampledFrom(candidates).Draw(t, name), 1)
	}
	for _, q := range op.Query {
		if rapid.IntRange(0, 3).Draw(t, "query") == 0 {
			path += map[bool]string{true: "&", false: "?"}[strings.Contains(path, "?")] + q.Name + "=" +
				rapid.SampledFrom([]string{"1", "0", "-1", "x", "", labID, "success", "2026-01-02T03:04:05Z", "%00", "99999999999999999999"}).Draw(t, q.Name)
		}
	}
	if op.Schema == "" {
		return strings.ReplaceAll(path, "wait=99999999999999999999", "wait="), ""
	}
	if all, err := api.Examples(op.ID); err == nil && len(all) > 0 && rapid.IntRange(0, 9).Draw(t, "an example") == 0 {
		return path, string(rapid.SampledFrom(all).Draw(t, "example").Request)
	}
	data, err := api.SchemaFile(op.Schema)
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	m := &maker{t: t, root: schema, breaks: rapid.IntRange(0, 2).Draw(t, "breaks")}
	text, err := json.Marshal(m.value(schema))
	if err != nil {
		t.Fatal(err)
	}
	return path, string(text)
}

func pathParameters(path string) []string {
	var names []string
	for part := range strings.SplitSeq(path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			names = append(names, strings.TrimSuffix(name, "}"))
		}
	}
	return names
}

// openWorld makes a world with the fixture's instance, and looks into its store.
func openWorld(t *testing.T) (*world, *sql.DB) {
	t.Helper()
	w := newWorld(t, map[string]int{trove.QuotaInstances: -1, trove.QuotaRAM: -1, trove.QuotaVolumes: -1}, nil)
	db, err := sql.Open("sqlite", "file:"+w.path+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	w.fewParameters(t)
	return w, db
}

// fewParameters leaves so many rules that a comparison of all rows is quick.
func (w *world) fewParameters(t *testing.T) {
	t.Helper()
	inTx(t, w.store, func(ctx context.Context, tx store.Tx) error {
		for _, d := range datastoreFixture {
			for _, name := range d.versions {
				all, err := tx.Parameters(ctx, versionID(d.name, name), true)
				if err != nil {
					return err
				}
				few := slices.DeleteFunc(all, func(p trove.Parameter) bool {
					return !slices.Contains([]string{"connect_timeout", "wait_timeout", "max_connections"}, p.Name)
				})
				if err := tx.ReplaceParameters(ctx, versionID(d.name, name), few); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// leaving reports whether the fixture's instance is being deleted.
func (w *world) leaving(t testing.TB) bool {
	t.Helper()
	row, open := w.openOperation(t, labID)
	return open && row.Kind == trove.OpDelete
}

// prober sends made requests of one operation to a world that is renewed now and then, because it fills up.
type prober struct {
	t        *testing.T
	op       *api.Operation
	w        *world
	db       *sql.DB
	before   map[string][]string // the rows as they are; nil: not known
	accepted int
	inWorld  int // accepted by this world
}

func (p *prober) probe(rt *rapid.T) {
	if p.w == nil || p.inWorld > 10 || p.w.leaving(p.t) {
		p.w, p.db = openWorld(p.t)
		p.before, p.inWorld = nil, 0
	}
	if p.before == nil {
		ensureLab(p.t, p.w)
		p.w.guests.tls = guestapi.SetTLSArgs{Off: true}
		p.w.guests.databases = map[string][]string{labID: {"db1"}}
		p.w.guests.users = map[string][]trove.User{labID: {{Name: "u1", Host: "%", Databases: []string{"db1"}}}}
		p.before = contents(p.t, p.db)
	}
	path, body := requestFor(rt, p.op)
	rec := p.w.ask(p.t, rapid.SampledFrom([]string{"member", "admin", "other"}).Draw(rt, "token"), p.op.Method, path, body)
	if rec.Code >= 500 && rec.Code != http.StatusNotImplemented {
		rt.Fatalf("%s %s %s: %d %s", p.op.Method, path, body, rec.Code, rec.Body)
	}
	if rec.Code < 300 {
		p.accepted++
		if p.op.Method != http.MethodGet {
			p.inWorld++
			p.before = nil
			return
		}
	}
	if d := cmp.Diff(p.before, contents(p.t, p.db)); d != "" {
		p.before = nil
		rt.Fatalf("%s %s %s: %d changed rows: %s\n%s", p.op.Method, path, body, rec.Code, rec.Body, d)
	}
}

// TestRequestsFromSchemas makes valid and slightly broken requests of every operation: never a 5xx but for what is not implemented or not there, and a
// refused request, and one that only reads, leaves no row and changes none.
func TestRequestsFromSchemas(t *testing.T) {
	// With the race detector the library's hundred for each operation take as long as everything else together. The long run asks for more.
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := f.Value.Set("40"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Value.Set(f.DefValue) })
	}
	accepted := map[string]int{}
	for _, op := range api.Operations() {
		t.Run(op.ID, func(t *testing.T) {
			p := &prober{t: t, op: &op}
			rapid.Check(t, p.probe)
			// Of what is made for some operations one in a hundred is accepted.
			for n := 0; n < 40 && p.accepted == 0 && op.Schema != "" && !slices.Contains(neverAccepted, op.ID); n++ {
				rapid.Check(t, p.probe)
			}
			accepted[op.ID] = p.accepted
		})
	}
	for _, op := range api.Operations() { // else the generator makes nothing that is valid, and the test says nothing
		if op.Schema != "" && accepted[op.ID] == 0 && !slices.Contains(neverAccepted, op.ID) {
			t.Errorf("no request of %s was accepted", op.ID)
		}
	}
}

// FuzzEveryBody sends arbitrary bodies to every operation that takes one; the seeds are the examples.
func FuzzEveryBody(f *testing.F) {
	var ops []api.Operation
	for _, op := range api.Operations() {
		if op.Schema == "" {
			continue
		}
		ops = append(ops, op)
		all, err := api.Examples(op.ID)
		if err != nil {
			f.Fatal(err)
		}
		for _, e := range all {
			f.Add(uint8(len(ops)-1), string(e.Request))
		}
		for _, s := range []string{"{}", "[]", "null", "1", `"x"`, "{", "\xff", `{"` + strings.Repeat("[", 100)} {
			f.Add(uint8(len(ops)-1), s)
		}
	}
	w := newWorld(f, map[string]int{trove.QuotaInstances: 50, trove.QuotaRAM: -1, trove.QuotaVolumes: -1}, nil) // more would make it slow
	f.Fuzz(func(t *testing.T, which uint8, body string) {
		if body == "" {
			return
		}
		op := ops[int(which)%len(ops)]
		ensureLab(t, w)
		w.guests.databases, w.guests.users = map[string][]string{}, map[string][]trove.User{labID: {{Name: "u1", Host: "%"}}}
		path := strings.NewReplacer("{instance}", labID, "{id}", labID, "{user}", "u1", "{tenant}", projectOther, "{operation}", absentID,
			"{module}", fuzzModule, "{cluster}", fuzzCluster, "{configuration}", fuzzGroup, "{version}", versionID("mysql", "8.0.29"),
			"{parameter}", "connect_timeout").Replace(op.Path)
		rec := w.ask(t, "admin", op.Method, path, body)
		if rec.Code >= 500 && rec.Code != http.StatusNotImplemented {
			t.Errorf("%s: %d %s", op.ID, rec.Code, rec.Body)
		}
		if rec.Code >= 400 {
			message(t, rec)
		}
	})
}
