package api

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/identity"
	"github.com/trove-dbaas/trove/store"
)

// scrapePrefix begins scrape tokens, so that one is known for what it is wherever it turns up.
const scrapePrefix = "trove-scrape-"

func scrapeHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// scrapeToken takes a scrape token out of the headers, "" if there is none.
func scrapeToken(h http.Header) string {
	kind, token, _ := strings.Cut(h.Get("Authorization"), " ")
	if !strings.EqualFold(kind, "Bearer") || !strings.HasPrefix(token, scrapePrefix) {
		return ""
	}
	h.Del("Authorization")
	return token
}

// serveScrape serves a call that carries a scrape token and no other: it is good for reading one instance's metrics. Whatever is wrong, the answer is
// that it is not valid: it tells nobody which instances there are.
func (s *server) serveScrape(ctx context.Context, w *recorder, r *http.Request, path, token string) error {
	project, path, _ := strings.Cut(path, "/")
	op, ps, ok := s.match(r.Method, "/"+path)
	if !ok || op.ID != "showMetrics" {
		s.writeUnauthenticated(ctx, w)
		return nil
	}
	c := &call{req: r, header: w.Header(), params: ps, base: s.linkBase(r)}
	if err := s.scrapes(ctx, c, project, token); err != nil {
		if trove.KindOf(err) != trove.KindUnauthorized {
			return err
		}
		s.writeUnauthenticated(ctx, w)
		return nil
	}
	w.project, w.op = c.project, op.ID
	if retry, limit, ok := s.rates.take(c.project, r.Method, s.cfg.Clock.Now()); !ok {
		s.writeRateLimited(ctx, w, r.Method, limit, retry)
		return nil
	}
	out, err := s.showMetrics(ctx, c)
	if err != nil {
		return err
	}
	if st, ok := out.(stream); ok {
		st.write(ctx, w)
	}
	return nil
}

// errNoScrape says that a scrape token does not fit.
var errNoScrape = trove.Errorf(trove.KindUnauthorized, "The scrape token is not valid.")

// scrapes finds the instance that a scrape token is for, or returns errNoScrape.
func (s *server) scrapes(ctx context.Context, c *call, project, token string) error {
	id := c.params.get("instance")
	if !trove.ValidID(id) {
		return errNoScrape
	}
	known, err := s.cfg.Store.ScrapeToken(ctx, id)
	if trove.IsNotFound(err) || err == nil && subtle.ConstantTimeCompare([]byte(known.Hash), []byte(scrapeHash(token))) != 1 {
		return errNoScrape
	}
	if err != nil {
		return fmt.Errorf("read the scrape token: %w", err)
	}
	c.instance, err = s.cfg.Store.Instance(ctx, id)
	if trove.IsNotFound(err) {
		return errNoScrape
	}
	if err != nil {
		return fmt.Errorf("read the instance: %w", err)
	}
	c.project = c.instance.ProjectID
	if named, err := url.PathUnescape(project); err != nil || named != c.project {
		return errNoScrape
	}
	c.caller = identity.Caller{UserID: known.UserID, ProjectID: c.project}
	return nil
}

func (s *server) viewScrapeToken(c *call, t *store.ScrapeToken) *wire.ScrapeTokenBody {
	return &wire.ScrapeTokenBody{ScrapeToken: wire.ScrapeToken{
		URL:    c.base + versionPrefix + "/" + c.instance.ProjectID + "/instances/" + c.instance.ID + "/metrics",
		UserID: t.UserID, Created: wire.Time(t.Created),
	}}
}

func (s *server) showScrapeToken(ctx context.Context, c *call) (any, error) {
	t, err := s.cfg.Store.ScrapeToken(ctx, c.instance.ID)
	if trove.IsNotFound(err) {
		return nil, trove.Errorf(trove.KindNotFound, "Instance %s has no scrape token.", c.instance.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("read the scrape token: %w", err)
	}
	return s.viewScrapeToken(c, &t), nil
}

func (s *server) createScrapeToken(ctx context.Context, c *call) (any, error) {
	token := scrapePrefix + rand.Text()
	t := store.ScrapeToken{InstanceID: c.instance.ID, Hash: scrapeHash(token), UserID: c.caller.UserID, Created: s.cfg.Clock.Now()}
	out := s.viewScrapeToken(c, &t)
	out.ScrapeToken.Token = token
	if err := s.willAnswer(ctx, c, out); err != nil {
		return nil, err
	}
	err := s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		if _, err := tx.Instance(ctx, c.instance.ID); err != nil { // it may have been deleted meanwhile
			return err
		}
		return tx.PutScrapeToken(ctx, t)
	})
	if err != nil {
		return nil, fmt.Errorf("make a scrape token: %w", err)
	}
	return out, nil
}

func (s *server) deleteScrapeToken(ctx context.Context, c *call) (any, error) {
	err := s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error { return tx.DeleteScrapeToken(ctx, c.instance.ID) })
	if err != nil {
		return nil, fmt.Errorf("revoke the scrape token: %w", err)
	}
	return nil, nil
}
