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
		"responses": node{
			strconv.Itoa(op.Success): success(types, op),
			"default":                node{"description": "A fault.", "content": content(node{"$ref": refPrefix + "Fault"})},
		},
	}
	if rule := op.PolicyRule(); rule != "" {
		out["x-policy-rule"] = rule
	}
	if op.Extension {
		out["x-extension"] = true
	}
	var query []node
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
	out["requestBody"] = node{"required": !op.OptionalBody, "content": content(schema)}
	return out, nil
}

func success(types *types, op *api.Operation) node {
	out := node{"description": http.StatusText(op.Success) + "."}
	if op.Response != nil {
		out["content"] = content(types.of(op.Response))
	}
	return out
}

func content(schema any) node { return node{jsonType: node{"schema": schema}} }

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
