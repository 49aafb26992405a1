package api

import (
	"context"
	"net/http"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/identity"
)

// Operation is one operation of the API. The table (Operations) is the single source: routes, the check of the body, the policy check, openapi.yaml
// and docs/api.md all come from it.
type Operation struct {
	ID      string // the OpenAPI operationId and the metrics label
	Method  string
	Path    string // below /v1.0/{project}; a parameter is {name}
	Summary string
	Group   string // the heading in the documentation

	// Rule is the policy rule. With {instance} in the path the instance is loaded first and its project is the rule's target, otherwise the
	// caller's own project. "": the handler checks, or nothing is to be checked.
	Rule string
	// Schema is the file in schemas/ that the body must satisfy; "": the operation takes no body.
	Schema string
	// OptionalBody lets the body be absent.
	OptionalBody bool
	Query        []Query
	Success      int
	Text         bool // the answer is a text
	Response     any  // the zero value of the answer's wire type, nil for an empty body
	Extension    bool // not in OpenStack Trove
	// Admin lets administrators alone pass, by Trove's context_is_admin; others get Trove's 401.
	Admin bool
	// Creates says that the call makes something, so that carrying it out twice would make two: it takes an Idempotency-Key.
	Creates bool
	// Secret says that the answer holds a secret: it is kept for repetitions no longer than secretLife.
	Secret bool
	// ByProject finds the instance only in the caller's own project and says of a missing one what Trove says in root calls.
	ByProject bool

	handle handler
}

// adminRule decides who is an administrator.
const adminRule = "context_is_admin"

// PolicyRule returns the rule that decides who may, "" where the handler checks or nothing is to be checked.
func (o *Operation) PolicyRule() string {
	if o.Admin {
		return adminRule
	}
	return o.Rule
}

// Query is a parameter of an operation's query string.
type Query struct {
	Name    string
	Type    string // integer, string, boolean
	Summary string
}

type handler func(s *server, ctx context.Context, c *call) (any, error)

// call is one request on its way through a handler.
type call struct {
	req      *http.Request
	header   http.Header // of the answer
	caller   identity.Caller
	admin    bool
	project  string // the caller's, which is the one in the URL
	base     string // scheme and host for links
	body     object // the checked body, nil if there was none
	instance trove.Instance
	params   params
	track    *track // of a call that may change something
}

// rights are what the catalogue is read with for what the request names.
func (c *call) rights() cloud.Rights { return cloud.Rights{Project: c.project, Token: c.caller.Token} }

// Enforcer decides what a caller may do. The error is Forbidden with Trove's text. package identity/policy has one.
type Enforcer interface {
	Enforce(rule string, c identity.Caller, target map[string]string) error
}
