package api

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/exposition"
	"github.com/trove-dbaas/trove/internal/figures"
)

const defaultStatements = 20

// figuresTimeout is how long the guest has: a scrape is given up after ten seconds.
const figuresTimeout = 8 * time.Second

func figureOperations() []Operation {
	const path, rule = "/instances/{instance}/metrics", "instance:show"
	return []Operation{
		{
			ID: "showMetrics", Method: http.MethodGet, Path: path, Rule: rule, Extension: true, Text: true,
			Summary: "Show the instance's metrics in Prometheus' text format. A scrape token as bearer token will do.",
			Success: http.StatusOK, handle: (*server).showMetrics,
		},
		{
			ID: "showScrapeToken", Method: http.MethodGet, Path: path + "/token", Rule: rule, Extension: true,
			Summary: "Show who made the instance's scrape token, and when. The token itself is not kept.",
			Success: http.StatusOK, Response: wire.ScrapeTokenBody{}, handle: (*server).showScrapeToken,
		},
		{
			ID: "createScrapeToken", Method: http.MethodPost, Path: path + "/token", Rule: "instance:update", Extension: true, Creates: true, Secret: true,
			Summary: "Make a token that can read the instance's metrics and nothing else. One that there was is valid no more.",
			Success: http.StatusOK, Response: wire.ScrapeTokenBody{}, handle: (*server).createScrapeToken,
		},
		{
			ID: "deleteScrapeToken", Method: http.MethodDelete, Path: path + "/token", Rule: "instance:update", Extension: true,
			Summary: "Revoke the instance's scrape token. May be repeated.", Success: http.StatusNoContent, handle: (*server).deleteScrapeToken,
		},
		{
			ID: "listStatements", Method: http.MethodGet, Path: "/instances/{instance}/statements", Rule: rule, Extension: true,
			Query:   []Query{{"limit", "integer", "how many; 20, at most 100"}},
			Summary: "List the statements that took the most time since the database counts, the costliest first.",
			Success: http.StatusOK, Response: wire.StatementList{}, handle: (*server).listStatements,
		},
	}
}

// metricsText is an answer in the text format.
type metricsText []byte

// write implements stream.
func (m metricsText) write(_ context.Context, w http.ResponseWriter) {
	w.Header().Set("Content-Type", exposition.ContentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Length", strconv.Itoa(len(m)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(m) //nolint:gosec // no page: the type and nosniff say so; a client that is gone has nothing to be told
}

// showMetrics answers also when the database or its guest is down: that is when a scrape must not fail.
func (s *server) showMetrics(ctx context.Context, c *call) (any, error) {
	version, _, err := s.datastoreVersion(ctx, c.instance.DatastoreVersionID)
	if err != nil {
		return nil, err
	}
	now := s.cfg.Clock.Now()
	var of guestapi.Metrics
	asked := figures.Measurable(&c.instance, now)
	if asked {
		ctx, cancel := context.WithTimeout(ctx, figuresTimeout)
		defer cancel()
		if of, err = s.cfg.Guests.Metrics(ctx, c.instance.ID, guestapi.MetricsArgs{}); err != nil {
			s.cfg.Log.DebugContext(ctx, "instance was not measured", "instance", c.instance.ID, "err", err)
		}
	}
	var text []byte
	for _, f := range figures.Own(&c.instance, &version, now, asked && err == nil, of.Left) {
		text = exposition.Append(text, &f)
	}
	for n := range of.Families {
		if f := &of.Families[n]; !figures.IsOwn(f.Name) {
			text = exposition.Append(text, f)
		}
	}
	return metricsText(text), nil
}

func (s *server) listStatements(ctx context.Context, c *call) (any, error) {
	limit := defaultStatements
	if text := c.req.URL.Query().Get("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > guestapi.MaxStatements {
			return nil, bad("limit must be a number from 1 to %d.", guestapi.MaxStatements)
		}
	}
	i := &c.instance
	if i.Stopped() {
		return nil, i.CheckActionable(i.BackingUp)
	}
	if !figures.Measurable(i, s.cfg.Clock.Now()) {
		return nil, trove.Errorf(trove.KindUnprocessable, "The database of instance %s does not answer.", i.ID)
	}
	all, err := s.cfg.Guests.Statements(ctx, i.ID, guestapi.StatementsArgs{Limit: limit})
	if err != nil {
		return nil, fmt.Errorf("list the statements: %w", err)
	}
	out := wire.StatementList{Statements: make([]wire.Statement, 0, len(all))}
	for _, st := range all {
		out.Statements = append(out.Statements, wire.Statement{
			Text: st.Text, Database: st.Database, Calls: st.Calls, Seconds: math.Round(st.Time().Seconds()*1e6) / 1e6, Rows: st.Rows,
		})
	}
	return &out, nil
}
