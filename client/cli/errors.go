package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/client"
)

// The exit codes of a command.
const (
	ExitOK     = 0
	ExitFailed = 1
	ExitUsage  = 2 // the command line is wrong; nothing was asked of the server
)

// UsageError says that a command was called in a wrong way, and how it is called.
type UsageError struct {
	Message string
}

// Error returns the message.
func (e *UsageError) Error() string { return e.Message }

func usagef(format string, args ...any) error {
	return &UsageError{Message: fmt.Sprintf(format, args...)}
}

// interruptedError is the end of waiting by the user. What is waited for goes on.
type interruptedError struct {
	message string
	cause   error
}

func (e *interruptedError) Error() string { return e.message }
func (e *interruptedError) Unwrap() error { return e.cause }

// Explain returns what to tell the user about the error of a command, and the exit code. No error is "" and ExitOK.
func Explain(err error) (message string, code int) {
	if err == nil {
		return "", ExitOK
	}
	if e, ok := errors.AsType[*UsageError](err); ok {
		return e.Message, ExitUsage
	}
	if e, ok := errors.AsType[*interruptedError](err); ok {
		return e.message, ExitFailed
	}
	if errors.Is(err, context.Canceled) {
		return "stopped.", ExitFailed
	}
	if e, ok := errors.AsType[*client.Error](err); ok && e.Status >= http.StatusInternalServerError && e.RequestID != "" {
		return fmt.Sprintf("%s (request %s)", err.Error(), e.RequestID), ExitFailed
	}
	if e, ok := errors.AsType[*trove.Error](err); ok {
		return e.Message, ExitFailed
	}
	return err.Error(), ExitFailed
}
