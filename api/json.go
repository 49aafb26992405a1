package api

import (
	"encoding/json"
	"math/big"
	"strconv"
)

// object is a JSON object that satisfied its schema. Values are read from this tree and not through struct tags, because encoding/json
// matches keys without regard to case: {"name": "ok", "NAME": ""} would pass the schema and bring another name.
type object map[string]any

func (o object) has(key string) bool { _, ok := o[key]; return ok }

// str returns a string, "" if it is absent or null.
func (o object) str(key string) string {
	s, _ := o[key].(string)
	return s
}

// strPtr returns a string, nil if it is absent or null.
func (o object) strPtr(key string) *string {
	if s, ok := o[key].(string); ok {
		return &s
	}
	return nil
}

// ref returns a string or a number as text, "" if it is absent.
func (o object) ref(key string) string {
	switch v := o[key].(type) {
	case string:
		return v
	case json.Number:
		return wholeText(v)
	}
	return ""
}

func (o object) boolPtr(key string) *bool {
	if b, ok := o[key].(bool); ok {
		return &b
	}
	return nil
}

// obj returns an object, nil if it is absent.
func (o object) obj(key string) object {
	m, _ := o[key].(map[string]any)
	return m
}

// list returns the objects of a list.
func (o object) list(key string) []object {
	items, _ := o[key].([]any)
	out := make([]object, 0, len(items))
	for _, item := range items {
		if m, ok := item.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// strs returns the strings of a list, nil if it is absent.
func (o object) strs(key string) []string {
	items, ok := o[key].([]any)
	if !ok {
		return nil
	}
	out := make([]string, 0, len(items))
	for _, item := range items {
		if s, ok := item.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// wholeText prints a whole number without fraction or exponent: 2.0 and 2e0 are 2.
func wholeText(n json.Number) string {
	text := n.String()
	if _, err := strconv.ParseInt(text, 10, 64); err == nil || len(text) > 64 {
		return text
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok || !r.IsInt() {
		return text
	}
	return r.Num().String()
}

// whole reads a whole number that may be written as text. ok is false if it is none or too large for an int.
func whole(v any) (n int, ok bool) {
	text := ""
	switch v := v.(type) {
	case string:
		text = v
	case json.Number:
		text = wholeText(v)
	default:
		return 0, false
	}
	n, err := strconv.Atoi(text)
	return n, err == nil
}
