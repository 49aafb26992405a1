package trove

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"
)

// AuditRecord says who asked for a change, from where, and what came of it. It holds no body and no secret.
type AuditRecord struct {
	ID string // NewAuditID

	UserID    string // "" when the caller is not known
	UserName  string
	ProjectID string
	Roles     []string
	Remote    string // the client's address

	RequestID   string
	Method      string
	Path        string
	Action      string // the operation of the API: "createInstance"; "" when there is none of this path
	TargetType  string // "instance", ...
	TargetID    string
	OperationID string // the durable operation that it began
	Status      int    // HTTP
	Took        time.Duration
}

// auditTime is how many hexadecimal digits of an id are the time in microseconds: enough for 2,200 years.
const auditTime = 14

// NewAuditID returns an id that sorts by the time of the call.
func NewAuditID(at time.Time) string {
	var b [9]byte
	_, _ = rand.Read(b[:])
	return AuditMark(at) + "-" + hex.EncodeToString(b[:])
}

// AuditMark is below all ids of calls at the time or later, and above all ids of earlier ones.
func AuditMark(at time.Time) string {
	return fmt.Sprintf("%0*x", auditTime, max(0, at.UnixMicro()))
}

// At returns when the call came, as its id says.
func (r *AuditRecord) At() time.Time {
	var us int64
	if _, err := fmt.Sscanf(r.ID[:min(auditTime, len(r.ID))], "%x", &us); err != nil {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// Succeeded says that the change was accepted.
func (r *AuditRecord) Succeeded() bool { return r.Status >= 200 && r.Status < 300 }
