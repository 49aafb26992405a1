package api

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
)

//go:embed examples/*.json
var exampleFiles embed.FS

// Example is an exchange that the documentation shows. A test makes the calls that come before it, sends the request, compares the answer, and holds
// both against the schemas. It knows {instance}, one that runs, {operation}, its newest one, the datastores and flavors of the fixture, and what else stage in
// stage_test.go makes.
type Example struct {
	Summary  string          `json:"summary"`
	Before   []ExampleCall   `json:"before,omitempty"`
	As       string          `json:"as"` // member or admin
	Path     string          `json:"path"`
	Request  json.RawMessage `json:"request,omitempty"`
	Status   int             `json:"status"`
	Response json.RawMessage `json:"response,omitempty"` // JSON; a string is a text
}

// ExampleCall is a call that comes before an example.
type ExampleCall struct {
	Method  string          `json:"method"`
	Path    string          `json:"path"`
	Request json.RawMessage `json:"request,omitempty"`
}

// RequestText returns the request's body in lines.
func (e Example) RequestText() string { return indented(e.Request) }

// ResponseText returns the answer's body in lines.
func (e Example) ResponseText() string { return indented(e.Response) }

func indented(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	if len(raw) == 0 {
		return ""
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return string(raw)
	}
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return string(raw)
	}
	return string(out)
}

// Examples returns the exchanges of an operation.
func Examples(operation string) ([]Example, error) {
	data, err := exampleFiles.ReadFile("examples/" + operation + ".json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the example of %s: %w", operation, err)
	}
	var all []Example
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("parse the example of %s: %w", operation, err)
	}
	return all, nil
}
