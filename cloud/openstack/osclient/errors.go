package osclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/gophercloud/gophercloud/v2"

	trove "github.com/trove-dbaas/trove"
)

// AnswerError is what a service of OpenStack said to a request that it did not do. It is the cause of the trove.Error that callers get.
type AnswerError struct {
	Service   string // as people call it: Nova
	Method    string
	Path      string
	Status    int
	Type      string // the service's own name of the failure, "" where it has none
	Message   string // what it says to people, in one line
	RequestID string

	err gophercloud.ErrUnexpectedResponseCode
}

// Error is error.Error. The body of the answer is not in it: nobody knows what stands there.
func (a *AnswerError) Error() string {
	return fmt.Sprintf("%s %s of %s was answered with %d%s", a.Method, a.Path, a.Service, a.Status, a.request())
}

// Unwrap returns gophercloud's error.
func (a *AnswerError) Unwrap() error { return a.err }

func (a *AnswerError) request() string {
	if a.RequestID == "" {
		return ""
	}
	return " (request " + a.RequestID + ")"
}

// AnswerOf returns what OpenStack answered, if that is what the error is about.
func AnswerOf(err error) (*AnswerError, bool) { return errors.AsType[*AnswerError](err) }

// Told returns the error in our words: a *trove.Error. What is one already, and nil, are returned as they are.
func Told(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*trove.Error](err); ok {
		return err
	}
	if after, ok := errors.AsType[*gophercloud.ErrErrorAfterReauthentication](err); ok {
		return Told(after.ErrOriginal)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return trove.Wrap(trove.KindUnavailable, err, "OpenStack was not waited for any longer.")
	}
	return trove.Wrap(trove.KindUnavailable, fmt.Errorf("the answer is none of OpenStack's (%T)", err), "An answer of OpenStack cannot be read.")
}

// told is Told for a request whose service is known.
func (s *Session) told(ctx context.Context, method, address, kind string, err error) error {
	if _, ok := errors.AsType[*trove.Error](err); ok {
		return err
	}
	name := services[kind].name
	if answer, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err); ok {
		return s.answered(name, method, address, answer)
	}
	var there *url.Error
	if !errors.As(err, &there) {
		return Told(err)
	}
	cause := there.Err // without the URL, whose query may name things
	var network net.Error
	switch {
	case ctx.Err() != nil:
		return trove.Wrap(trove.KindUnavailable, context.Cause(ctx), "%s was not waited for any longer.", name)
	case errors.As(cause, &network) && network.Timeout():
		return trove.Wrap(trove.KindUnavailable, cause, "%s did not answer within %s.", name, s.cfg.Timeout)
	}
	return trove.Wrap(trove.KindUnavailable, cause, "%s cannot be reached.", name)
}

// answered makes an error of an answer.
func (s *Session) answered(name, method, address string, err gophercloud.ErrUnexpectedResponseCode) error {
	a := &AnswerError{Service: name, Method: method, Path: address, Status: err.Actual, RequestID: requestID(err.ResponseHeader), err: err}
	if u, bad := url.Parse(address); bad == nil {
		a.Path = u.Path
	}
	a.Type, a.Message = read(err.Body)
	kind := kindOf(a)
	if kind == trove.KindUnauthorized && !s.asCaller {
		if last := s.refused.Load(); last != nil && last.err != nil && name != services[Identity].name {
			return last.err
		}
		kind = trove.KindUnavailable // the service user's own token was refused, even a new one: that is not the caller's fault
	}
	switch {
	case kind == trove.KindUnauthorized:
		return trove.Wrap(kind, a, "The request you have made requires authentication.")
	case kind == trove.KindUnavailable:
		return trove.Wrap(kind, a, "%s cannot do this at the moment: it answered %d%s.", name, a.Status, a.request())
	case a.Message == "":
		return trove.Wrap(kind, a, "%s refused this with the status %d%s.", name, a.Status, a.request())
	}
	return trove.Wrap(kind, a, "%s: %s%s.", name, a.Message, a.request())
}

// requestID returns the id under which the service has the request in its log.
func requestID(h http.Header) string {
	for _, name := range []string{"X-Openstack-Request-Id", "X-Compute-Request-Id", "X-Trans-Id"} {
		if id := h.Get(name); id != "" {
			return clean(id)
		}
	}
	return ""
}

// kindOf decides what sort of failure an answer is. The services have no common way to say that a limit is reached: Nova says 403, Neutron 409, Cinder and Swift 413.
func kindOf(a *AnswerError) trove.Kind {
	if overLimit(a) {
		return trove.KindOverLimit
	}
	switch a.Status {
	case http.StatusBadRequest:
		return trove.KindBadRequest
	case http.StatusUnauthorized:
		return trove.KindUnauthorized
	case http.StatusForbidden:
		return trove.KindForbidden
	case http.StatusNotFound, http.StatusGone:
		return trove.KindNotFound
	case http.StatusConflict, http.StatusPreconditionFailed:
		return trove.KindConflict
	case http.StatusMethodNotAllowed, http.StatusNotImplemented, http.StatusNotAcceptable:
		return trove.KindNotImplemented
	case http.StatusUnprocessableEntity, http.StatusLengthRequired:
		return trove.KindUnprocessable
	case http.StatusUnsupportedMediaType:
		return trove.KindMediaType
	}
	if a.Status/100 == 4 && a.Status != http.StatusTooManyRequests && a.Status != http.StatusRequestTimeout {
		return trove.KindBadRequest
	}
	return trove.KindUnavailable
}

func overLimit(a *AnswerError) bool {
	switch a.Status {
	case http.StatusRequestEntityTooLarge:
		return true
	case http.StatusForbidden, http.StatusConflict:
		return a.Type == "OverQuota" || a.Type == "IpAddressGenerationFailure" || strings.Contains(strings.ToLower(a.Message), "quota exceeded")
	}
	return false
}

var tags = regexp.MustCompile(`<[^>]*>`)

// read takes the type and the sentence out of the body of an answer: {"badRequest": {"message": ...}}, {"NeutronError": {"type": ..., "message": ...}},
// {"message": ...}, {"description": ...}, or nothing of a page in HTML.
func read(body []byte) (kind, message string) {
	var top map[string]json.RawMessage
	if json.Unmarshal(body, &top) != nil {
		return "", ""
	}
	if kind, message = words(top); message != "" {
		return kind, message
	}
	for name, inner := range top {
		var below map[string]json.RawMessage
		if json.Unmarshal(inner, &below) != nil {
			continue
		}
		if kind, message = words(below); message != "" {
			if kind == "" {
				kind = name
			}
			return kind, message
		}
	}
	return "", ""
}

func words(fields map[string]json.RawMessage) (kind, message string) {
	text := func(name string) string {
		var s string
		if json.Unmarshal(fields[name], &s) != nil {
			return ""
		}
		return clean(s)
	}
	if message = text("message"); message == "" {
		message = text("description")
	}
	return text("type"), message
}

// longest is how much of what a service says is shown.
const longest = 400

// clean makes one line of a text, without tags and the dot at its end.
func clean(text string) string {
	text = strings.ToValidUTF8(tags.ReplaceAllString(text, " "), "")
	text = strings.TrimRight(strings.Join(strings.Fields(text), " "), ". ")
	if r := []rune(text); len(r) > longest {
		text = string(r[:longest]) + "…"
	}
	return text
}
