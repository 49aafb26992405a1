package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/trove-dbaas/trove/api/wire"
)

// AuditOptions choose audit records; what is empty chooses all.
type AuditOptions struct {
	Project string
	User    string // id or name
	Target  string // id of an instance or another thing
	Method  string
	Outcome string // success or failure
	Since   time.Time
	Until   time.Time
	Limit   int // 0: all
}

func (o AuditOptions) query(marker string, limit int) string {
	q := url.Values{}
	for name, value := range map[string]string{
		"project": o.Project, "user": o.User, "target": o.Target, "method": o.Method, "outcome": o.Outcome, "marker": marker,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for name, at := range map[string]time.Time{"since": o.Since, "until": o.Until} {
		if !at.IsZero() {
			q.Set(name, at.UTC().Format(time.RFC3339Nano))
		}
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

// Audit returns who asked for changes, from where, and what came of it, newest first. It is for administrators.
func (c *Client) Audit(ctx context.Context, o AuditOptions) ([]wire.AuditRecord, error) {
	var all []wire.AuditRecord
	for marker := ""; ; {
		var page wire.AuditList
		left := 0
		if o.Limit > 0 {
			left = o.Limit - len(all)
		}
		if err := c.do(ctx, http.MethodGet, "/mgmt/audit"+o.query(marker, left), nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Audit...)
		next := nextMarker(page.Links)
		if next == "" || next == marker || o.Limit > 0 && len(all) >= o.Limit {
			return all, nil
		}
		marker = next
	}
}
