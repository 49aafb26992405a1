// Package wire is the JSON bodies of the REST API as structs, and nothing else: the server writes them, the client reads them.
//
// Keys, types and the presence of keys are Trove's v1.0. A pointer or an omitempty tag stands where clients test for a key's presence; a list
// that has to be there is never nil when the server writes it. The types hold no locks and may be copied.
package wire

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Layout is how Trove prints times: UTC, no zone, no fraction.
const Layout = "2006-01-02T15:04:05"

// Time is a time in Trove's form. The zero time is null.
type Time time.Time

// MarshalJSON prints the time in UTC.
func (t Time) MarshalJSON() ([]byte, error) {
	if time.Time(t).IsZero() {
		return []byte("null"), nil
	}
	b := make([]byte, 0, len(Layout)+2)
	b = append(b, '"')
	b = time.Time(t).UTC().AppendFormat(b, Layout)
	return append(b, '"'), nil
}

// UnmarshalJSON reads a time with or without a zone or a fraction; none means UTC.
func (t *Time) UnmarshalJSON(data []byte) error {
	var text *string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("read a time: %w", err)
	}
	if text == nil {
		*t = Time{}
		return nil
	}
	v, err := time.Parse(time.RFC3339Nano, *text)
	if err != nil {
		v, err = time.Parse(Layout, *text)
	}
	if err != nil {
		return fmt.Errorf("read a time: %w", err)
	}
	*t = Time(v.UTC())
	return nil
}

// Ref is a reference that may come as a string or as a number, such as flavorRef. It is written as a string.
type Ref string

// UnmarshalJSON reads a string or a number.
func (r *Ref) UnmarshalJSON(data []byte) error {
	text, err := stringOrNumber(data)
	*r = Ref(text)
	return err
}

// Size is a whole number that may come as a string of digits, such as the size of a volume. It is written as a number.
type Size int

// UnmarshalJSON reads a number or a string of digits.
func (s *Size) UnmarshalJSON(data []byte) error {
	text, err := stringOrNumber(data)
	if err != nil || text == "" {
		return err
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("read a size: %w", err)
	}
	*s = Size(n)
	return nil
}

func stringOrNumber(data []byte) (string, error) {
	text := strings.TrimSpace(string(data))
	if text == "null" {
		return "", nil
	}
	if !strings.HasPrefix(text, `"`) {
		var n json.Number
		if err := json.Unmarshal(data, &n); err != nil {
			return "", fmt.Errorf("read a string or a number: %w", err)
		}
		return n.String(), nil
	}
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return "", fmt.Errorf("read a string or a number: %w", err)
	}
	return s, nil
}

// Nullable is a string that is null when empty, where the key itself has to be there.
type Nullable string

// MarshalJSON writes null for "".
func (n Nullable) MarshalJSON() ([]byte, error) {
	if n == "" {
		return []byte("null"), nil
	}
	b, err := json.Marshal(string(n))
	if err != nil {
		return nil, fmt.Errorf("write a string: %w", err)
	}
	return b, nil
}

// UnmarshalJSON reads a string or null.
func (n *Nullable) UnmarshalJSON(data []byte) error {
	var text *string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("read a string: %w", err)
	}
	*n = ""
	if text != nil {
		*n = Nullable(*text)
	}
	return nil
}

// Link points to a resource or to the next page.
type Link struct {
	Href string `json:"href"`
	Rel  string `json:"rel"`
}

// Fault is what an error body holds under the fault's name: {"itemNotFound": {"code": 404, "message": "..."}}.
type Fault struct {
	Code       int    `json:"code"`
	Message    string `json:"message"`
	Details    string `json:"details,omitempty"`
	RetryAfter string `json:"retryAfter,omitempty"`
}

// The headers of the API.
const (
	HeaderToken     = "X-Auth-Token"           //nolint:gosec // the name of a header
	HeaderService   = "X-Service-Token"        //nolint:gosec // the name of a header
	HeaderRequestID = "X-Openstack-Request-Id" // in: taken over if it has the form req-<uuid>; out: always
	HeaderOperation = "X-Trove-Operation"      // out: the id of the operation that the call began; an extension

	HeaderIdempotencyKey = "Idempotency-Key"      // in: calls with the same one have one effect and one answer; an extension
	HeaderReplayed       = "Idempotency-Replayed" // out: the answer is the recorded one of an earlier call with the key
	HeaderIdempotency    = "X-Trove-Idempotency"  // out, with the version documents: for how many seconds a key holds
)
