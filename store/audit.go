package store

import (
	"context"
	"time"

	trove "github.com/trove-dbaas/trove"
)

// AuditFilter chooses a page of audit records, newest first. What is empty chooses all.
type AuditFilter struct {
	ProjectID string
	User      string // id or name
	TargetID  string
	Method    string
	Succeeded *bool
	Since     time.Time // inclusive
	Until     time.Time // exclusive
	Marker    string    // records before this id
	Limit     int       // 0: no limit
}

// AuditReader reads audit records.
type AuditReader interface {
	AuditRecords(ctx context.Context, f AuditFilter) ([]trove.AuditRecord, error)
}

// Audit are the changes to them.
type Audit interface {
	// AppendAudit writes a record. Texts that are too long for their column are cut.
	AppendAudit(ctx context.Context, r trove.AuditRecord) error
	// AmendAudit writes status, target, operation and time of a record that was appended; one that is gone is fine.
	AmendAudit(ctx context.Context, r trove.AuditRecord) error
	// PruneAudit removes records of calls before the time, and the oldest that are more than keep (0: any number); at most limit, and returns how
	// many there were.
	PruneAudit(ctx context.Context, before time.Time, keep, limit int) (int, error)
}
