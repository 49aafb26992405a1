package api

import (
	"context"
	"net/http"
	"regexp"

	"github.com/trove-dbaas/trove/api/wire"
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
		scheme := "http://"
		if r.TLS != nil {
			scheme = "https://"
		}
		base = scheme + r.Host
	}
	return wire.Version{
		ID: "v1.0", Status: "CURRENT", Updated: "2012-08-01T00:00:00Z",
		Links: []wire.Link{{Rel: "self", Href: base + versionPrefix + "/"}},
	}
}

// serveHealth answers GET /healthcheck: whether this process can serve requests.
func (s *server) serveHealth(ctx context.Context, w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
	if err := s.cfg.Store.Ping(ctx); err != nil {
		s.cfg.Log.WarnContext(ctx, "health check failed", "err", err)
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte("the store does not answer"))
		return
	}
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write([]byte("OK"))
}
