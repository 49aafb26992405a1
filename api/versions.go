package api

import (
	"context"
	"mime"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/internal/edge"
)

var acceptedVersion = regexp.MustCompile(`application/vnd\.openstack\.trove\+json;\s*version=([0-9.]+)`)

// serveVersions answers GET /. An Accept header that asks for a version gets its document.
func (s *server) serveVersions(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	v := s.version(r)
	if m := acceptedVersion.FindStringSubmatch(r.Header.Get("Accept")); m != nil {
		if m[1] != "1.0" {
			s.writeJSON(ctx, w, http.StatusNotAcceptable, map[string]wire.Fault{
				"notAcceptable": {Code: http.StatusNotAcceptable, Message: "version not supported"},
			})
			return
		}
		s.writeJSON(ctx, w, http.StatusOK, wire.VersionBody{Version: v})
		return
	}
	s.writeJSON(ctx, w, http.StatusOK, wire.Versions{Versions: []wire.Version{v}})
}

func (s *server) version(r *http.Request) wire.Version {
	base := s.cfg.PublicEndpoint
	if base == "" {
		base = edge.Of(r).Base()
	}
	return wire.Version{
		ID: "v1.0", Status: "CURRENT", Updated: "2012-08-01T00:00:00Z",
		Links: []wire.Link{{Rel: "self", Href: base + versionPrefix + "/"}},
	}
}

// serveHealth answers GET and HEAD /healthcheck, in the forms of oslo.middleware: whether this process can serve requests, and is to get any.
func (s *server) serveHealth(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	status, reason := http.StatusOK, "OK"
	if s.cfg.Disabled != nil && s.cfg.Disabled(r) {
		status, reason = http.StatusServiceUnavailable, "DISABLED BY FILE"
	} else if err := s.cfg.Store.Ping(ctx); err != nil {
		s.cfg.Log.WarnContext(ctx, "health check failed", "err", err)
		status, reason = http.StatusServiceUnavailable, "the store does not answer"
	}
	switch {
	case r.Method == http.MethodHead && status == http.StatusOK:
		w.WriteHeader(http.StatusNoContent)
	case wantsJSON(r.Header.Get("Accept")):
		s.writeJSON(ctx, w, status, wire.Health{Reasons: []string{reason}})
	default:
		writeText(w, status, reason)
	}
}

// wantsJSON reports whether JSON comes before text in an Accept header, by its weights.
func wantsJSON(accept string) bool {
	best := map[string]float64{}
	for part := range strings.SplitSeq(accept, ",") {
		kind, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		weight := 1.0
		if q, err := strconv.ParseFloat(params["q"], 64); err == nil {
			weight = q
		}
		best[kind] = max(best[kind], weight)
	}
	return best["application/json"] > max(best["text/plain"], best["text/*"], best["*/*"])
}
