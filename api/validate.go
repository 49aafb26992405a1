package api

import (
	"bytes"
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	trove "github.com/trove-dbaas/trove"
)

// DefaultMaxBody is how large a request body may be where nothing else is said, in bytes.
const DefaultMaxBody = 1 << 20

// maxMessage is how long the text of a validation error may become, in bytes: it quotes values.
const maxMessage = 8 << 10

//go:embed schemas/*.json
var schemaFiles embed.FS

// SchemaFile returns a request schema (JSON Schema draft 4) of the operation table.
func SchemaFile(name string) ([]byte, error) {
	data, err := schemaFiles.ReadFile(path.Join("schemas", name))
	if err != nil {
		return nil, fmt.Errorf("read the schema %s: %w", name, err)
	}
	return data, nil
}

func compileSchemas() (map[string]*jsonschema.Schema, error) {
	files, err := schemaFiles.ReadDir("schemas")
	if err != nil {
		return nil, fmt.Errorf("list the schemas: %w", err)
	}
	out := make(map[string]*jsonschema.Schema, len(files))
	for _, f := range files {
		data, err := SchemaFile(f.Name())
		if err != nil {
			return nil, err
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("parse the schema %s: %w", f.Name(), err)
		}
		c := jsonschema.NewCompiler()
		c.DefaultDraft(jsonschema.Draft4)
		if err := c.AddResource(f.Name(), doc); err != nil {
			return nil, fmt.Errorf("add the schema %s: %w", f.Name(), err)
		}
		if out[f.Name()], err = c.Compile(f.Name()); err != nil {
			return nil, fmt.Errorf("compile the schema %s: %w", f.Name(), err)
		}
	}
	return out, nil
}

const malformed = "The server could not comply with the request since it is either malformed or otherwise incorrect."

// readBody reads, parses and checks the body of a request as its operation wants it.
func (s *server) readBody(w http.ResponseWriter, r *http.Request, op *Operation) (object, error) {
	data, err := limitedBody(w, r, s.cfg.MaxBody)
	if err != nil {
		return nil, err
	}
	if len(data) == 0 {
		if op.Schema == "" || op.OptionalBody {
			return nil, nil
		}
		return nil, trove.Errorf(trove.KindBadRequest, "The request needs a JSON body.")
	}
	// Media types compare without regard to case (RFC 9110).
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return nil, trove.Errorf(trove.KindMediaType, "The request media type %q is not supported by this server: send application/json.",
			r.Header.Get("Content-Type"))
	}
	if !utf8.Valid(data) {
		return nil, trove.Errorf(trove.KindBadRequest, malformed)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return nil, trove.Wrap(trove.KindBadRequest, err, malformed)
	}
	if op.Schema == "" {
		return nil, trove.Errorf(trove.KindBadRequest, "This operation takes no request body.")
	}
	if err := s.schemas[op.Schema].Validate(doc); err != nil {
		invalid, ok := errors.AsType[*jsonschema.ValidationError](err)
		if !ok {
			return nil, fmt.Errorf("validate a body: %w", err)
		}
		return nil, trove.Errorf(trove.KindBadRequest, "%s", validationMessage(doc, invalid))
	}
	body, _ := doc.(map[string]any)
	return body, nil
}

// errTooLarge is answered as oslo.middleware's sizelimit does, as text.
var errTooLarge = trove.Errorf(trove.KindOverLimit, "Request is too large.")

func limitedBody(w http.ResponseWriter, r *http.Request, most int64) ([]byte, error) {
	switch {
	case r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0:
		return nil, nil
	case r.ContentLength > most:
		w.Header().Set("Connection", "close") // the rest is not read
		return nil, errTooLarge
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, errTooLarge
	}
	if err != nil {
		if r.Context().Err() != nil {
			return nil, fmt.Errorf("read the body: %w", r.Context().Err())
		}
		return nil, trove.Wrap(trove.KindBadRequest, err, "The request body could not be read to its end.")
	}
	return data, nil
}

// violation is one broken keyword of a schema.
type violation struct {
	path    []string
	keyword string // with the number of the alternative before it, inside oneOf and anyOf
	message string
	nested  []violation
}

// validationMessage says what is wrong with a body in the words of Python's jsonschema, as Trove does: "Validation error:
// instance['name'] ” is too short; instance['name'] ” does not match '...'".
func validationMessage(doc any, err *jsonschema.ValidationError) string {
	var all []violation
	collect(doc, err, "", &all)
	slices.SortStableFunc(all, func(a, b violation) int { return slices.Compare(a.path, b.path) })
	var parts []string
	for _, v := range all {
		parts = append(parts, strings.TrimSpace(location(doc, v.path)+" "+v.message))
		slices.SortStableFunc(v.nested, func(a, b violation) int { return cmp.Compare(a.keyword, b.keyword) })
		for _, n := range v.nested {
			parts = append(parts, n.message)
		}
	}
	text := "Validation error: " + strings.Join(parts, "; ")
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	return text
}

// location prints a path as Trove does: the first step bare, the others as Python indexes.
func location(doc any, steps []string) string {
	var b strings.Builder
	for i, step := range steps {
		_, inList := doc.([]any)
		switch {
		case i == 0:
			b.WriteString(step)
		case inList:
			b.WriteString("[" + step + "]")
		default:
			b.WriteString("[" + pythonRepr(step) + "]")
		}
		doc = child(doc, step)
	}
	return b.String()
}

func child(doc any, step string) any {
	switch d := doc.(type) {
	case map[string]any:
		return d[step]
	case []any:
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(d) {
			return d[i]
		}
	}
	return nil
}

func valueAt(doc any, steps []string) any {
	for _, step := range steps {
		doc = child(doc, step)
	}
	return doc
}

func collect(doc any, err *jsonschema.ValidationError, prefix string, out *[]violation) {
	at := err.InstanceLocation
	add := func(keyword, message string, nested []violation) {
		*out = append(*out, violation{path: at, keyword: prefix + keyword, message: message, nested: nested})
	}
	value := pythonRepr(valueAt(doc, at))
	switch k := err.ErrorKind.(type) {
	case *kind.OneOf, *kind.AnyOf:
		var nested []violation
		for i, cause := range err.Causes {
			collect(doc, cause, strconv.Itoa(i)+"/", &nested)
		}
		add("oneOf", value+" is not valid under any of the given schemas", nested)
	case *kind.Type:
		add("type", value+" is not of type "+quoted(k.Want), nil)
	case *kind.Required:
		for _, name := range k.Missing {
			add("required", pythonRepr(name)+" is a required property", nil)
		}
	case *kind.AdditionalProperties:
		add("additionalProperties", unexpected(k.Properties), nil)
	case *kind.MinLength, *kind.MinItems:
		add("minLength", value+" is too short", nil)
	case *kind.MaxLength, *kind.MaxItems:
		add("maxLength", value+" is too long", nil)
	case *kind.MinProperties:
		add("minProperties", value+" does not have enough properties", nil)
	case *kind.MaxProperties:
		add("maxProperties", value+" has too many properties", nil)
	case *kind.Pattern:
		add("pattern", value+" does not match "+pythonRepr(k.Want), nil)
	case *kind.Minimum:
		add("minimum", value+" is less than the minimum of "+k.Want.RatString(), nil)
	case *kind.Maximum:
		add("maximum", value+" is greater than the maximum of "+k.Want.RatString(), nil)
	case *kind.UniqueItems:
		add("uniqueItems", value+" has non-unique elements", nil)
	case *kind.Enum:
		add("enum", value+" is not one of "+pythonRepr(k.Want), nil)
	default:
		if len(err.Causes) == 0 {
			add("", value+" is not valid", nil)
		}
		for _, cause := range err.Causes {
			collect(doc, cause, prefix, out)
		}
	}
}

func quoted(types []string) string {
	parts := make([]string, len(types))
	for i, t := range types {
		parts[i] = pythonRepr(t)
	}
	return strings.Join(parts, ", ")
}

func unexpected(names []string) string {
	names = slices.Sorted(slices.Values(names))
	verb := "was"
	if len(names) > 1 {
		verb = "were"
	}
	return "Additional properties are not allowed (" + quoted(names) + " " + verb + " unexpected)"
}
