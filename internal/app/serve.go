package app

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/trove-dbaas/trove/internal/edge"
)

// serve runs the components until ctx ends, then stops them in the reverse order of need: first the API, so that nothing new is accepted.
func (c *controllers) serve(ctx context.Context, ready func(url string)) error {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var g errgroup.Group
	run := func(name string, f func(context.Context) error) {
		g.Go(func() error {
			defer stop() // one that ends takes the others along
			if err := f(background); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	run("memory", trimMemory)
	run("keys", c.keys.Run)
	if c.cfg.Store.URL != "" {
		run("clocks", c.clocks.Run)
	}
	if c.runs.Conductor {
		run("conductor", c.conductor.Run)
		if c.fleet != nil {
			run("metrics of instances", c.fleet.Run)
		}
	}
	if c.runs.Taskmanager {
		run("taskmanager", c.taskmanager.Run)
		run("grants", c.renewGrantKeys)
		if c.net != nil {
			run("images", c.watchImages)
			run("network", c.watchNetwork)
		}
		if c.scheduled() {
			run("exports", c.exports)
		}
	}
	if c.runs.API {
		run("retention", c.prune)
	}
	url, stopHTTP := c.serveHTTP(run)
	c.log.InfoContext(ctx, "service started", "components", c.runs.Names(), "api", url)
	ready(url)
	select {
	case <-ctx.Done():
	case <-background.Done():
	}
	stopHTTP(context.WithoutCancel(ctx))
	stop()
	err := g.Wait()
	c.log.Info("service stopped")
	return err
}

// serveHTTP serves the API, or the metrics alone in a process without it. It returns the API's address and what stops the server.
func (c *controllers) serveHTTP(run func(name string, f func(context.Context) error)) (url string, stop func(context.Context)) {
	h := httpServer(c.cfg.API, c.handler, c.log)
	name, listeners := "api", c.apiListeners
	switch {
	case len(listeners) > 0:
		url = scheme(c.cfg.API.TLSCertificate) + listeners[0].Addr().String()
	case c.metricsListener != nil:
		name, listeners = "metrics", []net.Listener{c.metricsListener}
		mux := http.NewServeMux()
		c.handleMetrics(mux)
		h.Handler = edge.WriteProgress(c.clock, c.cfg.API.WriteTimeout, mux)
	default:
		return "", func(context.Context) {}
	}
	s := edge.NewServer(h, c.draining, c.accepting...)
	for _, l := range listeners {
		run(name, func(context.Context) error { return s.Serve(l) })
	}
	return url, func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, c.cfg.API.Drain)
		defer cancel()
		s.Stop(ctx)
	}
}

// imagePoll is how often the images directory is looked at: an image that was built meanwhile becomes a datastore version without a restart.
const imagePoll = 2 * time.Second

func (c *controllers) watchImages(ctx context.Context) error {
	var last time.Time
	tick := time.NewTicker(imagePoll)
	defer tick.Stop()
	for {
		if info, err := os.Stat(ImagesDir(c.cfg)); err == nil && info.ModTime().After(last) {
			last = info.ModTime()
			if err := registerImages(ctx, c.store, ImagesDir(c.cfg)); err != nil && ctx.Err() == nil {
				c.log.WarnContext(ctx, "images were not registered", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// localOnly lets requests through that come from this machine.
func localOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if ip := net.ParseIP(strings.TrimSpace(host)); err != nil || ip == nil || !ip.IsLoopback() {
			http.NotFound(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}
