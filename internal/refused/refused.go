// Package refused reads what the controllers' endpoints for guests answer when they refuse a request: a status of HTTP and a body with a message for people.
// It keeps no state.
package refused

import (
	"encoding/json"
	"net/http"

	trove "github.com/trove-dbaas/trove"
)

// Body is what such an answer holds.
type Body struct {
	Message string `json:"message"`
}

// Error returns the error that an answer stands for. A body that is none of ours, such as a proxy's, is replaced by a sentence about whom was asked ("The
// enrolment endpoint"). Whether it may be tried again says trove.IsPermanent.
func Error(asked string, resp *http.Response, data []byte) error {
	var b Body
	if json.Unmarshal(data, &b) != nil || b.Message == "" {
		b.Message = asked + " answered " + resp.Status + "."
	}
	err := trove.Errorf(kindOf(resp.StatusCode), "%s", b.Message)
	if resp.StatusCode == http.StatusRequestEntityTooLarge {
		return trove.Permanent(err) // the same body is too large tomorrow
	}
	return err
}

func kindOf(status int) trove.Kind {
	switch status {
	case http.StatusBadRequest:
		return trove.KindBadRequest
	case http.StatusUnauthorized:
		return trove.KindUnauthorized
	case http.StatusForbidden:
		return trove.KindForbidden
	case http.StatusNotFound:
		return trove.KindNotFound
	case http.StatusConflict:
		return trove.KindConflict
	case http.StatusRequestEntityTooLarge:
		return trove.KindOverLimit
	}
	return trove.KindUnavailable
}
