package guestfiles

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	trove "github.com/trove-dbaas/trove"
)

// Words are how a server's configuration says yes and no, and which characters a text in it cannot have.
type Words struct {
	Yes, No string
	Bad     func(rune) bool
}

// Value turns a JSON string, number or boolean into the text of a value in a server's configuration.
func (w Words) Value(raw json.RawMessage) (string, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return "", fmt.Errorf("it is not JSON: %w", err)
	}
	switch v := v.(type) {
	case bool:
		if v {
			return w.Yes, nil
		}
		return w.No, nil
	case json.Number:
		return v.String(), nil
	case string:
		if len(v) > trove.MaxParameterText || strings.ContainsFunc(v, w.Bad) {
			return "", errors.New("it is too long or has characters that are not allowed")
		}
		return v, nil
	}
	return "", errors.New("it must be a string, a number or a boolean")
}
