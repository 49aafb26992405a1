package app

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/internal/edge"
)

// listenAPI opens all addresses of the API, with TLS where there is a certificate.
func (c *controllers) listenAPI(ctx context.Context) error {
	for _, l := range c.cfg.API.AllListeners() {
		listener, err := c.listenOn(ctx, l.Listen, "The API", "--listen, api.listen or api.listeners")
		if err != nil {
			return err
		}
		drainable := edge.NewListener(listener)
		c.accepting, listener = append(c.accepting, drainable), drainable
		if l.TLSCertificate != "" {
			cert, err := edge.OpenCertificate(l.TLSCertificate, l.TLSKey, c.clock, c.log)
			if err != nil {
				return trove.Wrap(trove.KindBadRequest, err, "The certificate of the API cannot be used: %v.", err)
			}
			listener = tls.NewListener(listener, cert.Config())
		}
		c.apiListeners = append(c.apiListeners, listener)
	}
	return nil
}

func scheme(certificate string) string {
	if certificate != "" {
		return "https://"
	}
	return "http://"
}

// front puts before the API what stands between it and its clients.
func front(cfg config.API, clk clock.Clock, h http.Handler) (http.Handler, error) {
	proxies, err := cfg.Proxies()
	if err != nil {
		return nil, err
	}
	cors := edge.CORS{
		Origins: cfg.CORS.AllowedOrigin, Credentials: cfg.CORS.AllowCredentials, Expose: cfg.CORS.ExposeHeaders, Methods: cfg.CORS.AllowMethods,
		Headers: cfg.CORS.AllowHeaders, MaxAge: time.Duration(cfg.CORS.MaxAge) * time.Second,
	}
	return edge.WriteProgress(clk, cfg.WriteTimeout, edge.Forwarded(proxies, cors.Handler(h))), nil
}

// httpServer has no limit for the time until an answer: long polls take theirs. What a client may take to receive it is edge.WriteProgress's.
func httpServer(cfg config.API, h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: cfg.HeaderTimeout, ReadTimeout: cfg.ReadTimeout, IdleTimeout: cfg.IdleTimeout, MaxHeaderBytes: cfg.MaxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// pruneInterval is how often what requests left behind is looked through. Several processes may do it at once.
const pruneInterval = 10 * time.Minute

func (c *controllers) prune(ctx context.Context) error {
	keep := api.Retention{AuditAge: time.Duration(c.cfg.API.Audit.Days) * 24 * time.Hour, AuditKeep: c.cfg.API.Audit.Keep}
	for clock.Sleep(ctx, pruneInterval) == nil {
		audit, calls, err := api.Prune(ctx, c.store, c.clock.Now(), keep)
		if err != nil && ctx.Err() == nil {
			c.log.WarnContext(ctx, "old audit records were not removed", "err", err)
			continue
		}
		c.log.DebugContext(ctx, "old records were removed", "audit", audit, "calls", calls)
	}
	return nil
}
