package api

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

//go:embed openapi.yaml
var openAPIYAML []byte

// OpenAPI returns the OpenAPI 3.1 document of the API as JSON.
var OpenAPI = sync.OnceValues(func() ([]byte, error) {
	var doc map[string]any
	if err := yaml.Unmarshal(openAPIYAML, &doc); err != nil {
		return nil, fmt.Errorf("read openapi.yaml: %w", err)
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("write openapi.json: %w", err)
	}
	return text, nil
})

// serveOpenAPI answers GET /v1.0/openapi.json.
func (s *server) serveOpenAPI(ctx context.Context, w http.ResponseWriter) {
	text, err := OpenAPI()
	s.serveFile(ctx, w, "application/json", text, err)
}

// serveDocs answers GET /v1.0/docs.
func (s *server) serveDocs(ctx context.Context, w http.ResponseWriter) {
	// The page has no script and loads nothing: also a summary that held markup could do nothing.
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	text, err := docsPage()
	s.serveFile(ctx, w, "text/html; charset=UTF-8", text, err)
}

func (s *server) serveFile(ctx context.Context, w http.ResponseWriter, kind string, text []byte, err error) {
	if err != nil {
		s.writeError(ctx, w, err)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.Header().Set("Cache-Control", "max-age=300")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(text)
}

//go:embed docs.html
var docsTemplate string

// docsOperation is an operation as the page shows it.
type docsOperation struct {
	*Operation
	Status   string // of success, with its text
	Body     string // the request's schema
	Examples []Example
}

type docsGroup struct {
	Name       string
	Anchor     string
	Operations []docsOperation
}

// docsPage makes the page once: it depends on the table alone.
var docsPage = sync.OnceValues(func() ([]byte, error) {
	t, err := template.New("docs").Parse(docsTemplate)
	if err != nil {
		return nil, fmt.Errorf("read the page of the API: %w", err)
	}
	var groups []docsGroup
	for _, op := range Operations() {
		if len(groups) == 0 || groups[len(groups)-1].Name != op.Group {
			groups = append(groups, docsGroup{Name: op.Group, Anchor: strings.ToLower(strings.NewReplacer(" ", "-", ",", "").Replace(op.Group))})
		}
		shown := docsOperation{Operation: &op, Status: fmt.Sprintf("%d %s", op.Success, http.StatusText(op.Success))}
		if shown.Examples, err = Examples(op.ID); err != nil {
			return nil, err
		}
		if op.Schema != "" {
			schema, err := SchemaFile(op.Schema)
			if err != nil {
				return nil, err
			}
			shown.Body = string(schema)
		}
		g := &groups[len(groups)-1]
		g.Operations = append(g.Operations, shown)
	}
	var buf bytes.Buffer
	if err := t.Execute(&buf, groups); err != nil {
		return nil, fmt.Errorf("write the page of the API: %w", err)
	}
	return buf.Bytes(), nil
})
