// Package openapi writes the API's description from its operation table: api/openapi.yaml (OpenAPI 3.1) and docs/api.md.
//
// The output depends on the table, the wire types and the request schemas alone, so that a test can tell whether the committed files are fresh.
package openapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/api/wire"
)

// node is a mapping of the document; yaml writes its keys in order.
type node = map[string]any

// document is OpenAPI's root, in the order in which people read it.
type document struct {
	OpenAPI    string `yaml:"openapi"`
	Info       node   `yaml:"info"`
	Servers    []node `yaml:"servers"`
	Security   []node `yaml:"security"`
	Tags       []node `yaml:"tags"`
	Paths      node   `yaml:"paths"`
	Components node   `yaml:"components"`
}

const (
	banner    = "# Code generated from the operation table by go generate ./api; DO NOT EDIT.\n"
	jsonType  = "application/json"
	refPrefix = "#/components/schemas/"
)

// YAML returns the OpenAPI document.
func YAML() ([]byte, error) {
	types := newTypes()
	paths := node{}
	var tags []node
	for _, op := range api.Operations() {
		described, err := operation(types, &op)
		if err != nil {
			return nil, fmt.Errorf("describe %s: %w", op.ID, err)
		}
		path := "/v1.0/{project}" + op.Path
		item, ok := paths[path].(node)
		if !ok {
			item = node{"parameters": pathParameters(path)}
			paths[path] = item
		}
		item[strings.ToLower(op.Method)] = described
		if len(tags) == 0 || tags[len(tags)-1]["name"] != op.Group {
			tags = append(tags, node{"name": op.Group})
		}
	}
	outside(types, paths)
	types.schemas["Fault"] = faultSchema()
	doc := document{
		OpenAPI: "3.1.0",
		Info: node{
			"title": "Trove", "version": "v1.0",
			"description": "The database service's REST API: OpenStack Trove v1.0 and our extensions, which are marked with x-extension.",
		},
		Servers:  []node{{"url": "/"}},
		Security: []node{{"token": []string{}}},
		Tags:     tags,
		Paths:    paths,
		Components: node{
			"schemas":         types.schemas,
			"parameters":      node{"IdempotencyKey": idempotencyKey()},
			"securitySchemes": node{"token": node{"type": "apiKey", "in": "header", "name": "X-Auth-Token"}},
		},
	}
	var buf bytes.Buffer
	buf.WriteString(banner)
	enc := yaml.NewEncoder(&buf)
	enc.SetIndent(2)
	if err := enc.Encode(doc); err != nil {
		return nil, fmt.Errorf("write the document: %w", err)
	}
	return buf.Bytes(), nil
}

func operation(types *types, op *api.Operation) (node, error) {
	out := node{
		"operationId": op.ID, "summary": op.Summary, "tags": []string{op.Group},
	}
	if rule := op.PolicyRule(); rule != "" {
		out["x-policy-rule"] = rule
	}
	if op.Extension {
		out["x-extension"] = true
	}
	examples, err := api.Examples(op.ID)
	if err != nil {
		return nil, fmt.Errorf("read the examples: %w", err)
	}
	out["responses"] = responses(types, op, examples)
	var query []node
	if op.Creates {
		query = append(query, node{"$ref": "#/components/parameters/IdempotencyKey"})
	}
	for _, q := range op.Query {
		query = append(query, node{"name": q.Name, "in": "query", "description": q.Summary, "schema": node{"type": q.Type}})
	}
	if len(query) > 0 {
		out["parameters"] = query
	}
	if op.Schema == "" {
		return out, nil
	}
	schema, err := requestSchema(op.Schema)
	if err != nil {
		return nil, err
	}
	body := content(schema)
	shown := node{}
	for n, e := range examples {
		if len(e.Request) > 0 {
			shown[exampleName(n)] = exampleOf(e.Summary, e.Request)
		}
	}
	if len(shown) > 0 {
		body[jsonType].(node)["examples"] = shown
	}
	out["requestBody"] = node{"required": !op.OptionalBody, "content": body}
	return out, nil
}

// responses are the answers of success and the faults, with those of the examples.
func responses(types *types, op *api.Operation, examples []api.Example) node {
	good := node{"description": http.StatusText(op.Success) + "."}
	fault := content(node{"$ref": refPrefix + "Fault"})
	var body node
	switch {
	case op.Response != nil:
		body = content(types.of(op.Response))
		good["content"] = body
	case op.Text:
		good["content"] = node{"text/plain": node{"schema": node{"type": "string"}}}
		body = node{jsonType: good["content"].(node)["text/plain"]}
	}
	for n, e := range examples {
		into := fault
		if e.Status == op.Success {
			into = body
		}
		if len(e.Response) == 0 || into == nil {
			continue
		}
		media := into[jsonType].(node)
		shown, ok := media["examples"].(node)
		if !ok {
			shown = node{}
			media["examples"] = shown
		}
		shown[exampleName(n)] = exampleOf(e.Summary, e.Response)
	}
	return node{strconv.Itoa(op.Success): good, "default": node{"description": "A fault.", "content": fault}}
}

func exampleName(n int) string { return "example" + strconv.Itoa(n+1) }

func exampleOf(summary string, raw json.RawMessage) node {
	d := json.NewDecoder(bytes.NewReader(raw))
	var value any
	if err := d.Decode(&value); err != nil {
		value = string(raw)
	}
	return node{"summary": summary, "value": value}
}

func content(schema any) node { return node{jsonType: node{"schema": schema}} }

func idempotencyKey() node {
	return node{
		"name": wire.HeaderIdempotencyKey, "in": "header",
		"description": "Chosen by the client, a new one for each request. The same key with the same request gives the recorded answer once more, for a day, " +
			"marked with " + wire.HeaderReplayed + "; with another request it is 422, and 409 while the first call runs.",
		"schema": node{"type": "string", "minLength": 1, "maxLength": 255},
	}
}

// requestSchema reads a request's schema. What it uses of draft 4 means the same in OpenAPI's dialect.
func requestSchema(name string) (node, error) {
	data, err := api.SchemaFile(name)
	if err != nil {
		return nil, fmt.Errorf("read the request's schema: %w", err)
	}
	var schema node
	if err := json.Unmarshal(data, &schema); err != nil {
		return nil, fmt.Errorf("parse the request's schema: %w", err)
	}
	delete(schema, "$schema")
	return schema, nil
}

var pathParameter = regexp.MustCompile(`\{([a-z_]+)\}`)

func pathParameters(path string) []node {
	var out []node
	for _, m := range pathParameter.FindAllStringSubmatch(path, -1) {
		out = append(out, node{"name": m[1], "in": "path", "required": true, "schema": node{"type": "string"}})
	}
	return out
}
