package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/trove-dbaas/trove/api"
)

// TestExamples makes the exchanges that the documentation shows: what is written there is what the server answers.
func TestExamples(t *testing.T) {
	doc := newDocument(t)
	for _, op := range api.Operations() {
		t.Run(op.ID, func(t *testing.T) {
			all, err := api.Examples(op.ID)
			if err != nil || len(all) == 0 {
				t.Fatalf("no example in api/examples/%s.json: write summary, as, path and request; -update fills in the answer (%v)", op.ID, err)
			}
			good := false
			for n := range all {
				got := makeExample(t, &op, all[n])
				doc.check(t, &op, &got)
				good = good || got.Status == op.Success
				if *update {
					all[n] = got
				} else if d := cmp.Diff(compactExample(all[n]), compactExample(got)); d != "" {
					t.Errorf("%s: go test ./api -run TestExamples -update writes it anew\n%s", all[n].Summary, d)
				}
			}
			if !good && !slices.Contains(neverGood, op.ID) {
				t.Errorf("none of the examples answers %d", op.Success)
			}
			if *update {
				writeExamples(t, op.ID, all)
			}
		})
	}
}

// neverGood are the operations that always refuse, in this release or as in Trove, and those that do in this fixture.
var neverGood = []string{
	"createBackup", "createCluster", "showClusterRoot", "enableClusterRoot", "disableClusterRoot", "showDatabase", "deleteDatastore", "hostStatus",
}

func writeExamples(t *testing.T, id string, all []api.Example) {
	t.Helper()
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(all); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("examples", id+".json"), buf.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// compactExample has the bodies as trees, so that spaces do not count.
func compactExample(e api.Example) map[string]any {
	return map[string]any{"summary": e.Summary, "as": e.As, "path": e.Path, "status": e.Status, "request": e.RequestText(), "response": e.ResponseText()}
}

func makeExample(t *testing.T, op *api.Operation, e api.Example) api.Example {
	t.Helper()
	w := newWorld(t, nil, func(c *api.Config) { c.PublicEndpoint, c.NoRateLimit = "https://db.example:8779", false })
	w.stage(t)
	known := maps.Clone(staged)
	fill := func(text string) string {
		for name, value := range known {
			text = strings.ReplaceAll(text, name, value)
		}
		return text
	}
	for _, b := range e.Before {
		w.ask(t, "member", b.Method, fill(b.Path), fill(string(b.Request)))
		w.clock.Add(time.Second)
		if row, open := w.openOperation(t, labID); open {
			known["{operation}"] = row.ID
		}
	}
	rec := w.ask(t, e.As, op.Method, fill(e.Path), fill(string(e.Request)))
	e.Status, e.Response = rec.Code, nil
	if rec.Body.Len() > 0 {
		e.Response = steady(t, rec)
	}
	return e
}

var (
	uuid        = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`)
	madeUp      = regexp.MustCompile(`"[A-Z2-7]{26}"`)
	scrapeToken = regexp.MustCompile(`"trove-scrape-[A-Z2-7]{26}"`)
	auditID     = regexp.MustCompile(`"([0-9a-f]{14})-[0-9a-f]{18}"`)
	duration    = regexp.MustCompile(`"seconds":[0-9.e-]+`)
	logPart     = regexp.MustCompile(`(Z)-[0-9a-f]{8}/`)
	fixtureID   = regexp.MustCompile(`^(10000000|20000000|30000000|40000000|e0000000|a[123]000000|b[123][12]00000|0b5f1a52|1c6f2b63|2d7f3c74|0000000f)-`)
)

// steady returns an answer with what is made up each time replaced by something that looks like it.
func steady(t *testing.T, rec *httptest.ResponseRecorder) json.RawMessage {
	t.Helper()
	text := rec.Body.String()
	if !strings.HasPrefix(rec.Header().Get("Content-Type"), "application/json") {
		out, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	ids := map[string]string{}
	text = uuid.ReplaceAllStringFunc(text, func(id string) string {
		if fixtureID.MatchString(id) {
			return id
		}
		if ids[id] == "" {
			ids[id] = fmt.Sprintf("5d7f1f0c-8f52-4a3e-9a44-%012d", len(ids)+1)
		}
		return ids[id]
	})
	text = scrapeToken.ReplaceAllString(text, `"trove-scrape-K7VQ2MZXN4T3JHC5WPRDLB6YAE"`)
	text = madeUp.ReplaceAllString(text, `"K7VQ2MZXN4T3JHC5WPRDLB6YAE"`)
	text = auditID.ReplaceAllString(text, `"$1-8f3a0c5b1d2e4f6071"`)
	text = logPart.ReplaceAllString(text, `$1-2ce0e6d4/`)
	text = duration.ReplaceAllString(text, `"seconds":0.0021`)
	return json.RawMessage(text)
}

// document is the OpenAPI document with its schemas.
type document struct {
	compiler *jsonschema.Compiler
	paths    map[string]any
}

func newDocument(t *testing.T) *document {
	t.Helper()
	text, err := api.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	tree, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	d := &document{compiler: jsonschema.NewCompiler(), paths: tree.(map[string]any)["paths"].(map[string]any)}
	d.compiler.DefaultDraft(jsonschema.Draft2020)
	if err := d.compiler.AddResource("mem:///doc.json", tree); err != nil {
		t.Fatal(err)
	}
	return d
}

var escapePointer = strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D")

// check holds an exchange against the document's schemas.
func (d *document) check(t *testing.T, op *api.Operation, e *api.Example) {
	t.Helper()
	path := "/v1.0/{project}" + op.Path
	at := "mem:///doc.json#/paths/" + escapePointer.Replace(path) + "/" + strings.ToLower(op.Method)
	described := d.paths[path].(map[string]any)[strings.ToLower(op.Method)].(map[string]any)
	if len(e.Request) > 0 {
		d.valid(t, at+"/requestBody/content/application~1json/schema", e.Request)
	}
	answers := described["responses"].(map[string]any)
	which := fmt.Sprint(e.Status)
	if answers[which] == nil {
		if e.Status < http.StatusBadRequest {
			t.Fatalf("the answer %d is not described", e.Status)
		}
		which = "default"
	}
	content, _ := answers[which].(map[string]any)["content"].(map[string]any)
	switch {
	case len(e.Response) == 0 && content != nil:
		t.Errorf("no body where one is described")
	case len(e.Response) > 0 && content["application/json"] != nil:
		d.valid(t, at+"/responses/"+which+"/content/application~1json/schema", e.Response)
	case len(e.Response) > 0 && len(content) == 0:
		t.Errorf("a body where none is described")
	}
}

func (d *document) valid(t *testing.T, pointer string, body json.RawMessage) {
	t.Helper()
	schema, err := d.compiler.Compile(pointer)
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(v); err != nil {
		t.Errorf("%v\n%s", err, body)
	}
}

// No file is an example of nothing.
func TestExamplesBelongToOperations(t *testing.T) {
	files, err := filepath.Glob("examples/*.json")
	if err != nil {
		t.Fatal(err)
	}
	left := map[string]bool{}
	for _, f := range files {
		left[strings.TrimSuffix(filepath.Base(f), ".json")] = true
	}
	for _, op := range api.Operations() {
		delete(left, op.ID)
	}
	if len(left) > 0 {
		t.Errorf("examples of no operation: %v", slices.Sorted(maps.Keys(left)))
	}
}
