package openapi

import (
	"encoding/json"
	"reflect"
	"strings"
	"time"

	"github.com/trove-dbaas/trove/api/wire"
)

// types turns wire types into schemas, each struct once.
type types struct{ schemas node }

func newTypes() *types { return &types{schemas: node{}} }

// special are the types that marshal themselves.
var special = map[reflect.Type]node{
	reflect.TypeFor[wire.Time]():        {"type": []string{"string", "null"}, "description": "UTC, without zone and fraction: 2026-01-02T03:04:05"},
	reflect.TypeFor[wire.Nullable]():    {"type": []string{"string", "null"}},
	reflect.TypeFor[wire.Ref]():         {"type": []string{"string", "integer"}},
	reflect.TypeFor[wire.Size]():        {"type": []string{"integer", "string"}},
	reflect.TypeFor[wire.PreciseTime](): {"type": "string", "description": "UTC, without zone, with microseconds: 2026-01-02T03:04:05.000000"},
	reflect.TypeFor[json.Number]():      {"type": "number"},
	reflect.TypeFor[time.Time]():        {"type": "string", "format": "date-time"},
}

// of returns the schema of a value's type.
func (t *types) of(v any) node { return t.schema(reflect.TypeOf(v)) }

func (t *types) schema(typ reflect.Type) node {
	if s, ok := special[typ]; ok {
		return s
	}
	switch typ.Kind() {
	case reflect.Pointer:
		return t.schema(typ.Elem())
	case reflect.Slice:
		return node{"type": "array", "items": t.schema(typ.Elem())}
	case reflect.Map:
		return node{"type": "object", "additionalProperties": nullable(t.schema(typ.Elem()))}
	case reflect.Struct:
		if typ.Name() == "" { // such as what hides a field of an embedded type
			return node{"type": "object"}
		}
		return t.named(typ)
	case reflect.String:
		return node{"type": "string"}
	case reflect.Bool:
		return node{"type": "boolean"}
	case reflect.Float32, reflect.Float64:
		return node{"type": "number"}
	case reflect.Int, reflect.Int32, reflect.Int64:
		return node{"type": "integer"}
	}
	return node{} // anything
}

func nullable(s node) node {
	if kind, ok := s["type"].(string); ok {
		s["type"] = []string{kind, "null"}
	}
	return s
}

// named describes a struct under its own name and returns a reference to it.
func (t *types) named(typ reflect.Type) node {
	ref := node{"$ref": refPrefix + typ.Name()}
	if _, done := t.schemas[typ.Name()]; done {
		return ref
	}
	properties := node{}
	schema := node{"type": "object", "properties": properties}
	t.schemas[typ.Name()] = schema
	var required []string
	for _, field := range reflect.VisibleFields(typ) {
		if field.Anonymous || len(field.Index) > 1 && replaced(typ, field) {
			continue
		}
		name := key(field)
		_, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		property := t.schema(field.Type)
		if !strings.Contains(options, "omitempty") {
			required = append(required, name)
			if field.Type.Kind() == reflect.Pointer {
				property = nullable(property)
			}
		}
		properties[name] = property
	}
	if len(required) > 0 {
		schema["required"] = required
	}
	return ref
}

// replaced reports whether a field of an embedded struct is hidden by an outer one of the same key.
func replaced(typ reflect.Type, inner reflect.StructField) bool {
	for outer := range typ.Fields() {
		if !outer.Anonymous && outer.Tag.Get("json") != "" && key(outer) == key(inner) {
			return true
		}
	}
	return false
}

func key(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// faultSchema describes an error body: one key, the fault's name.
func faultSchema() node {
	return node{
		"type": "object", "minProperties": 1, "maxProperties": 1,
		"description": "One key, the fault's name: badRequest, unauthorized, forbidden, itemNotFound, conflict, overLimit, badMediaType, " +
			"unprocessableEntity, notImplemented, serviceUnavailable, instanceFault; \"error\" when the token is missing or not valid.",
		"additionalProperties": node{
			"type": "object", "required": []string{"code", "message"},
			"properties": node{
				"code": node{"type": "integer"}, "message": node{"type": "string"},
				"details": node{"type": "string"}, "retryAfter": node{"type": "string"}, "title": node{"type": "string"},
			},
		},
	}
}

// outside adds what lies outside the projects and needs no token.
func outside(t *types, paths node) {
	get := func(id, summary string, responses node) node {
		return node{"get": node{"operationId": id, "summary": summary, "security": []node{}, "responses": responses}}
	}
	versions := node{"200": node{"description": "OK.", "content": content(t.of(wire.Versions{}))}}
	version := node{"200": node{"description": "OK.", "content": content(t.of(wire.VersionBody{}))}}
	text := node{"text/plain": node{"schema": node{"type": "string"}}, jsonType: node{"schema": t.of(wire.Health{})}}
	health := node{
		"200": node{"description": "This process can serve requests.", "content": text},
		"503": node{"description": "It cannot, or is to get none.", "content": text},
	}
	document := node{"200": node{"description": "OK.", "content": content(node{"type": "object"})}}
	page := node{"200": node{"description": "OK.", "content": node{"text/html": node{"schema": node{"type": "string"}}}}}
	paths["/v1.0/openapi.json"] = get("showOpenAPI", "This document as JSON.", document)
	paths["/v1.0/docs"] = get("showDocs", "A page that shows this document.", page)
	paths["/"] = get("listAPIVersions", "List the versions of the API.", versions)
	paths["/v1.0/"] = get("showAPIVersion", "Show the version v1.0.", version)
	paths["/healthcheck"] = get("checkHealth", "Say whether this process can serve requests.", health)
}
