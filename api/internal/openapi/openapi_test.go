package openapi_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/api/internal/openapi"
)

var update = flag.Bool("update", false, "write the generated files")

// TestFresh proves that the committed files are what the operation table says.
func TestFresh(t *testing.T) {
	doc, err := openapi.YAML()
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][]byte{"../../openapi.yaml": doc, "../../../docs/api.md": openapi.Markdown()} {
		if *update {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s is not fresh: run go generate ./api\n%s", path, diff)
		}
	}
}

func parse(t *testing.T) map[string]any {
	t.Helper()
	data, err := openapi.YAML()
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := yaml.Unmarshal(data, &tree); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return doc.(map[string]any)
}

// TestStructure checks what OpenAPI 3.1 asks of this document: every operation once, with an answer and its path parameters, every schema valid
// JSON Schema 2020-12, every reference with a target.
func TestStructure(t *testing.T) {
	doc := parse(t)
	ids := map[string]bool{}
	for path, item := range doc["paths"].(map[string]any) {
		declared := map[string]bool{}
		for key, v := range item.(map[string]any) {
			if key == "parameters" {
				for _, p := range v.([]any) {
					declared[p.(map[string]any)["name"].(string)] = true
				}
				continue
			}
			op := v.(map[string]any)
			id := op["operationId"].(string)
			if ids[id] {
				t.Errorf("the operation %s stands there twice", id)
			}
			ids[id] = true
			if len(op["responses"].(map[string]any)) == 0 {
				t.Errorf("%s has no answer", id)
			}
		}
		for part := range strings.SplitSeq(path, "/") {
			if name, ok := strings.CutPrefix(part, "{"); ok && !declared[strings.TrimSuffix(name, "}")] {
				t.Errorf("%s does not declare %s", path, part)
			}
		}
	}
	if want := len(api.Operations()) + 5; len(ids) != want {
		t.Errorf("%d operations, the table has %d and there are 5 outside", len(ids), want-5)
	}
	compileAll(t, doc)
}

func compileAll(t *testing.T, doc map[string]any) {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("mem:///doc.json", doc); err != nil {
		t.Fatal(err)
	}
	found := 0
	var walk func(pointer string, v any)
	walk = func(pointer string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for key, child := range v {
				at := pointer + "/" + strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(key)
				if key == "schema" || pointer == "/components/schemas" {
					found++
					if _, err := c.Compile("mem:///doc.json#" + at); err != nil {
						t.Errorf("%s: %v", at, err)
					}
					continue
				}
				walk(at, child)
			}
		case []any:
			for n, child := range v {
				walk(pointer+"/"+string(rune('0'+n)), child)
			}
		}
	}
	walk("", map[string]any{"paths": doc["paths"], "components": doc["components"]})
	if found < 50 {
		t.Errorf("only %d schemas were found", found)
	}
}

// TestEveryOperationIsDocumented: the page for people names all of them.
func TestEveryOperationIsDocumented(t *testing.T) {
	page := string(openapi.Markdown())
	for _, op := range api.Operations() {
		if !strings.Contains(page, "`"+op.Method+" "+op.Path) {
			t.Errorf("%s is not in the page", op.ID)
		}
		if op.Summary == "" || op.Success == 0 || op.Group == "" {
			t.Errorf("%s lacks summary, status or group", op.ID)
		}
	}
	ops := api.Operations()
	if slices.ContainsFunc(ops, func(o api.Operation) bool { return o.Method != strings.ToUpper(o.Method) }) {
		t.Error("methods are in capitals")
	}
}
