package openstack

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
	"github.com/trove-dbaas/trove/internal/clock"
)

// client is a service's client, or why there is none.
type client func() (*gophercloud.ServiceClient, error)

// request is one request to a service.
type request struct {
	of           client
	microversion string // "": the service's default
	path         []string
	query        url.Values
	body, into   any
}

// every status below 300 is well: what a call returns it is known by its body.
var well = []int{200, 201, 202, 203, 204}

func (r request) send(ctx context.Context, method string) error {
	c, err := r.of()
	if err != nil {
		return err
	}
	c.Microversion = r.microversion
	parts := make([]string, len(r.path))
	for i, s := range r.path {
		parts[i] = url.PathEscape(s)
	}
	address := c.ServiceURL(parts...)
	if len(r.query) > 0 {
		address += "?" + r.query.Encode()
	}
	_, err = c.Request(ctx, method, address, &gophercloud.RequestOpts{JSONBody: r.body, JSONResponse: r.into, OkCodes: well}) //nolint:bodyclose // it is read and closed
	return osclient.Told(err)
}

func (r request) get(ctx context.Context) error  { return r.send(ctx, http.MethodGet) }
func (r request) post(ctx context.Context) error { return r.send(ctx, http.MethodPost) }
func (r request) put(ctx context.Context) error  { return r.send(ctx, http.MethodPut) }

// remove succeeds when there is nothing.
func (r request) remove(ctx context.Context) error { return gone(r.send(ctx, http.MethodDelete)) }

// list reads a whole list, page by page.
func list[T any](ctx context.Context, r request, key string) ([]T, error) {
	var all []T
	for {
		var page map[string]json.RawMessage
		r.into = &page
		if err := r.get(ctx); err != nil {
			return nil, err
		}
		var part []T
		if err := json.Unmarshal(page[key], &part); err != nil {
			return nil, unreadable(err)
		}
		all = append(all, part...)
		next, err := nextPage(page[key+"_links"])
		if err != nil || next == nil || len(part) == 0 {
			return all, err
		}
		r.query = next
	}
}

// nextPage returns the query of the next page, nil for none.
func nextPage(links json.RawMessage) (url.Values, error) {
	if len(links) == 0 {
		return nil, nil //nolint:nilnil // there is none
	}
	var all []struct {
		Rel  string `json:"rel"`
		Href string `json:"href"`
	}
	if err := json.Unmarshal(links, &all); err != nil {
		return nil, unreadable(err)
	}
	for _, l := range all {
		if l.Rel != "next" {
			continue
		}
		u, err := url.Parse(l.Href)
		if err != nil {
			return nil, unreadable(err)
		}
		return u.Query(), nil
	}
	return nil, nil //nolint:nilnil // there is none
}

func unreadable(err error) error {
	return trove.Wrap(trove.KindUnavailable, err, "An answer of OpenStack cannot be read.")
}

// object is a JSON object that is sent.
type object map[string]any

// stamp is a time as OpenStack writes it: with or without fraction and zone. Only their order matters here.
type stamp string

// before reports whether a is earlier.
func (a stamp) before(b stamp) bool { return a.text() < b.text() }

func (a stamp) text() string {
	t := strings.TrimSuffix(string(a), "Z")
	if !strings.Contains(t, ".") {
		t += "."
	}
	return (t + "000000")[:min(len(t)+6, len("2006-01-02T15:04:05.000000"))]
}

// until looks again and again until done says true, for as long as a removal may wait. What is not done then is temporarily refused with the sentence.
func (p *Provider) until(ctx context.Context, sentence string, done func(context.Context) (bool, error)) error {
	took, pause := clock.Stopwatch(), firstLook
	for {
		ok, err := done(ctx)
		if err != nil || ok {
			return err
		}
		if took() > p.cfg.Wait {
			return trove.Errorf(trove.KindUnavailable, "%s", sentence)
		}
		if err := clock.Sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(pause*2, slowestLook)
	}
}

// seconds is a duration that a cache keeps things for.
const cacheTime = 5 * time.Minute
