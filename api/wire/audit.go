package wire

import "time"

// AuditRecord says who asked for a change, from where, and what came of it. The names are those of CADF (DSP0262) where it has one.
type AuditRecord struct {
	ID        string         `json:"id"`
	EventTime time.Time      `json:"eventTime"` // when the call came
	Action    string         `json:"action"`    // the operationId of the API; "" when no operation has the path
	Outcome   string         `json:"outcome"`   // success or failure
	Reason    AuditReason    `json:"reason"`
	Initiator AuditInitiator `json:"initiator"`
	Target    AuditTarget    `json:"target"`

	RequestID   string  `json:"request_id"`
	Method      string  `json:"method"`
	RequestPath string  `json:"requestPath"`
	OperationID string  `json:"operation_id,omitempty"` // the operation that it began
	Seconds     float64 `json:"seconds"`                // until the record was written
}

// AuditReason is the outcome as HTTP has it.
type AuditReason struct {
	ReasonCode string `json:"reasonCode"`
}

// AuditInitiator is who asked; all is empty when the token was not valid.
type AuditInitiator struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	ProjectID string    `json:"project_id"`
	Roles     []string  `json:"roles"`
	Host      AuditHost `json:"host"`
}

// AuditHost is where the call came from.
type AuditHost struct {
	Address string `json:"address"`
}

// AuditTarget is what the call was about: what its path names first, or what it made.
type AuditTarget struct {
	ID      string `json:"id"`
	TypeURI string `json:"typeURI,omitempty"` // service/database/instance
}

// AuditList is a page of audit records, newest first.
type AuditList struct {
	Audit []AuditRecord `json:"audit"`
	Links []Link        `json:"links,omitempty"`
}
