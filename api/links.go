package api

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/internal/edge"
)

// linkBase is how links to resources begin. Without a configured endpoint they are https with the request's Host, as Trove's are: clients read
// the marker in them and nothing else.
func (s *server) linkBase(r *http.Request) string {
	if s.cfg.PublicEndpoint != "" {
		return s.cfg.PublicEndpoint
	}
	if s.cfg.FollowRequest {
		return edge.Of(r).Base()
	}
	return "https://" + r.Host
}

// links are the self and bookmark links of a resource below the project.
func (c *call) links(resource, id string) []wire.Link {
	return []wire.Link{
		{Href: c.base + versionPrefix + "/" + c.project + "/" + resource + "/" + id, Rel: "self"},
		{Href: c.base + "/" + resource + "/" + id, Rel: "bookmark"},
	}
}

// page is what a list call asked for.
type page struct {
	limit  int // 0: no limit
	marker string
}

// readPage reads limit and marker. Ids and names are capped at the page size; a list of names takes 0 and negative numbers for no limit.
func (s *server) readPage(c *call, names bool) (page, error) {
	q := c.req.URL.Query()
	p := page{limit: s.cfg.PageSize, marker: q.Get("marker")}
	text := q.Get("limit")
	if text == "" {
		return p, nil
	}
	n, err := strconv.Atoi(text)
	switch {
	case err != nil || (n <= 0 && !names):
		return p, trove.Errorf(trove.KindBadRequest, "The limit %q is not a positive whole number.", text)
	case n <= 0:
		p.limit = 0
	default:
		p.limit = min(n, s.cfg.PageSize)
	}
	return p, nil
}

// nextLink is the link to the page after marker: the request's own query in its order, with the marker in place. The marker is quoted twice, as Trove
// does, so that clients that take it out of the link can send it as it is.
func (c *call) nextLink(marker string) []wire.Link {
	return []wire.Link{{Rel: "next", Href: c.base + c.req.URL.EscapedPath() + "?" + nextQuery(c.req, marker)}}
}

func nextQuery(r *http.Request, marker string) string {
	marker = "marker=" + url.QueryEscape(quoteOnce(marker))
	var parts []string
	for part := range strings.SplitSeq(r.URL.RawQuery, "&") {
		switch key, _, _ := strings.Cut(part, "="); key {
		case "", "marker":
			if key != "" && !slices.Contains(parts, marker) {
				parts = append(parts, marker)
			}
		default:
			parts = append(parts, part)
		}
	}
	if !slices.Contains(parts, marker) {
		parts = append(parts, marker)
	}
	return strings.Join(parts, "&")
}

// quoteOnce is Python's urllib.parse.quote: a slash stays.
func quoteOnce(s string) string {
	return strings.NewReplacer("+", "%20", "%2F", "/").Replace(url.QueryEscape(s))
}
