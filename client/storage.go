package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/trove-dbaas/trove/api/wire"
)

// Storage returns how full an instance's volume is, its alarm, and whether it grows by itself.
func (c *Client) Storage(ctx context.Context, instance string) (wire.Storage, error) {
	var out wire.StorageBody
	err := c.do(ctx, http.MethodGet, instancePath(instance, "storage"), nil, &out)
	return out.Storage, err
}

// SetAutoscale lets an instance's volume grow by itself before it is full.
func (c *Client) SetAutoscale(ctx context.Context, instance string, a wire.Autoscale) (wire.Storage, error) {
	var out wire.StorageBody
	err := c.do(ctx, http.MethodPut, instancePath(instance, "storage", "autoscale"), wire.AutoscaleBody{Autoscale: a}, &out)
	return out.Storage, err
}

// DeleteAutoscale lets it grow by itself no more.
func (c *Client) DeleteAutoscale(ctx context.Context, instance string) error {
	return c.do(ctx, http.MethodDelete, instancePath(instance, "storage", "autoscale"), nil, nil)
}

// TailOptions choose what comes of a log: the last lines, or with Since what follows a cursor, waited for so long.
type TailOptions struct {
	Lines int // 0: the server's default
	Since string
	Wait  time.Duration
}

// TailLog returns lines of a log of a running instance.
func (c *Client) TailLog(ctx context.Context, instance, log string, o TailOptions) (wire.LogTail, error) {
	q := url.Values{}
	if o.Lines > 0 {
		q.Set("lines", strconv.Itoa(o.Lines))
	}
	if o.Since != "" {
		q.Set("since", o.Since)
	}
	if o.Wait > 0 {
		q.Set("wait", o.Wait.String())
	}
	path := instancePath(instance, "log", segment(log), "tail")
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	var out wire.LogTailBody
	err := c.do(ctx, http.MethodGet, path, nil, &out)
	return out.Tail, err
}

// Statements returns the statements that took the most time; limit 0 is the server's default.
func (c *Client) Statements(ctx context.Context, instance string, limit int) ([]wire.Statement, error) {
	path := instancePath(instance, "statements")
	if limit > 0 {
		path += "?limit=" + strconv.Itoa(limit)
	}
	var out wire.StatementList
	err := c.do(ctx, http.MethodGet, path, nil, &out)
	return out.Statements, err
}

// Metrics returns an instance's metrics in Prometheus' text format.
func (c *Client) Metrics(ctx context.Context, instance string) (string, error) {
	var text strings.Builder
	err := c.text(ctx, instancePath(instance, "metrics"), &text)
	return text.String(), err
}

// ScrapeToken tells who made the scrape token of an instance, and when.
func (c *Client) ScrapeToken(ctx context.Context, instance string) (wire.ScrapeToken, error) {
	var out wire.ScrapeTokenBody
	err := c.do(ctx, http.MethodGet, instancePath(instance, "metrics", "token"), nil, &out)
	return out.ScrapeToken, err
}

// CreateScrapeToken makes a token that can read the instance's metrics and nothing else; one that there was is valid no more.
func (c *Client) CreateScrapeToken(ctx context.Context, instance string) (wire.ScrapeToken, error) {
	var out wire.ScrapeTokenBody
	err := c.create(ctx, instancePath(instance, "metrics", "token"), nil, &out)
	return out.ScrapeToken, err
}

// DeleteScrapeToken revokes it.
func (c *Client) DeleteScrapeToken(ctx context.Context, instance string) error {
	return c.do(ctx, http.MethodDelete, instancePath(instance, "metrics", "token"), nil, nil)
}
