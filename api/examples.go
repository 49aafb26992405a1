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

// Example is an exchange that the documentation shows. A test sends the requests and compares the answers.
type Example struct {
	Summary string `json:"summary"`
	As      string `json:"as"` // member or admin
	Path    string `json:"path"`
	// Before is what has to be so: "" an instance that runs, and what else the test knows by name.
	Before   string          `json:"before,omitempty"`
	Request  json.RawMessage `json:"request,omitempty"`
	Status   int             `json:"status"`
	Response json.RawMessage `json:"response,omitempty"` // JSON; a string is a text
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
