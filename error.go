package trove

import (
	"errors"
	"fmt"
)

// Kind says what sort of failure an Error is. The kinds are the fault classes of Trove's REST API; api/faults.go maps each to one
// HTTP status and fault name.
type Kind uint8

// The kinds. KindInternal is the zero value: an error without a kind is our own fault, and its text never leaves the process.
const (
	KindInternal       Kind = iota // instanceFault, 500
	KindBadRequest                 // badRequest, 400
	KindUnauthorized               // unauthorized, 401
	KindForbidden                  // forbidden, 403
	KindNotFound                   // itemNotFound, 404
	KindConflict                   // conflict, 409
	KindOverLimit                  // overLimit, 413
	KindMediaType                  // badMediaType, 415
	KindUnprocessable              // unprocessableEntity, 422
	KindNotImplemented             // notImplemented, 501
	KindUnavailable                // serviceUnavailable, 503: the same call may succeed later
)

var kindNames = [...]string{
	"internal", "bad request", "unauthorized", "forbidden", "not found", "conflict", "over limit", "media type",
	"unprocessable", "not implemented", "unavailable",
}

// String returns the kind in words, for logs.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", k)
}

// Error is an error that crosses a border between components. Message is for the user and goes out; Err is for us and is only logged.
type Error struct {
	Kind    Kind
	Message string // a full sentence for people: what is wrong, and what to do where that is known
	Op      string // what was being done, for the log
	Err     error  // the cause, for the log
}

// Error returns the text for logs: operation, message and cause.
func (e *Error) Error() string {
	text := e.Message
	if e.Op != "" {
		text = e.Op + ": " + text
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error of the given kind whose message for the user is the formatted text. A %w verb is not supported: use Wrap.
func Errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// Wrap makes an Error of the given kind with a message for the user and a cause that is only logged.
func Wrap(kind Kind, err error, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...), Err: err}
}

// KindOf returns the kind of the first Error in err's chain, KindInternal if there is none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return KindInternal
}

// IsNotFound reports whether err says that the thing asked for does not exist.
func IsNotFound(err error) bool { return err != nil && KindOf(err) == KindNotFound }

// MessageOf returns what a user may read of err: the message of the first Error in its chain, or a text that tells nothing.
func MessageOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Message
	}
	return "an internal error occurred; the log has it under this request id"
}

type permanentError struct{ error }

func (p permanentError) Unwrap() error { return p.error }

// Permanent marks err as one that trying again cannot mend. Drivers decide; retry and workflow read it with IsPermanent.
// Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanentError{err}
}

// IsPermanent reports whether trying the same again is useless: err was marked with Permanent, or its kind is one that the same call
// meets again (every kind except KindInternal and KindUnavailable). An unmarked error without a kind is temporary.
func IsPermanent(err error) bool {
	if _, ok := errors.AsType[permanentError](err); ok {
		return true
	}
	switch KindOf(err) {
	case KindInternal, KindUnavailable:
		return false
	default:
		return true
	}
}
