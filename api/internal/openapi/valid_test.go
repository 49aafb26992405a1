package openapi_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/trove-dbaas/trove/api"
)

func specification(t *testing.T) *jsonschema.Schema {
	t.Helper()
	data, err := os.ReadFile("testdata/openapi-3.1.json")
	if err != nil {
		t.Fatal(err)
	}
	tree, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("mem:///openapi.json", tree); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("mem:///openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// TestValid holds the document, as it is served, against what OpenAPI 3.1 says; its schemas against the meta-schema of JSON Schema 2020-12.
func TestValid(t *testing.T) {
	schema := specification(t)
	text, err := api.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	served, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(served); err != nil {
		t.Errorf("%#v", err)
	}
	if err := schema.Validate(parse(t)); err != nil {
		t.Errorf("the document of the table: %v", err)
	}
}

// TestValidSeesMistakes: the check says no to what is wrong.
func TestValidSeesMistakes(t *testing.T) {
	schema := specification(t)
	at := func(doc map[string]any, path ...string) map[string]any {
		for _, key := range path {
			doc = doc[key].(map[string]any)
		}
		return doc
	}
	const instances = "/v1.0/{project}/instances"
	for name, spoil := range map[string]func(doc map[string]any){
		"a version of its own": func(d map[string]any) { d["openapi"] = "3.2" },
		"no answer":            func(d map[string]any) { delete(at(d, "paths", instances, "get"), "responses") },
		"a status that is none": func(d map[string]any) {
			at(d, "paths", instances, "get", "responses")["2000"] = map[string]any{"description": "x"}
		},
		"a keyword that is none": func(d map[string]any) { at(d, "paths", instances, "post", "requestBody")["schema"] = map[string]any{} },
		"a type that is none":    func(d map[string]any) { at(d, "components", "schemas", "Fault")["type"] = "thing" },
		"an optional path parameter": func(d map[string]any) {
			delete(at(d, "paths", instances)["parameters"].([]any)[0].(map[string]any), "required")
		},
		"a path without a slash": func(d map[string]any) { at(d, "paths")["instances"] = map[string]any{} },
	} {
		doc := parse(t)
		spoil(doc)
		if schema.Validate(doc) == nil {
			t.Errorf("%s is taken for valid", name)
		}
	}
}
