package bootstrap

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/gophercloud/gophercloud/v2"

	trove "github.com/trove-dbaas/trove"
)

// Services are the clients of an administrator; osclient.Session has them. A service that the catalogue does not have is NotImplemented.
type Services interface {
	Identity() (*gophercloud.ServiceClient, error)
	Network() (*gophercloud.ServiceClient, error)
	Compute() (*gophercloud.ServiceClient, error)
	Volume() (*gophercloud.ServiceClient, error)
	Image() (*gophercloud.ServiceClient, error)
	ProjectID() string // in which they act
}

// rest asks one service. Its errors are those of the session, which have OpenStack's own request id.
type rest struct {
	client *gophercloud.ServiceClient
}

func open(client func() (*gophercloud.ServiceClient, error)) (rest, error) {
	c, err := client()
	return rest{c}, err
}

// absent reports whether there is no such service.
func absent(err error) bool { return trove.KindOf(err) == trove.KindNotImplemented }

func (r rest) url(query url.Values, path ...string) string {
	u := r.client.ServiceURL(path...)
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	return u
}

func (r rest) get(ctx context.Context, out any, query url.Values, path ...string) error {
	_, err := r.client.Get(ctx, r.url(query, path...), out, &gophercloud.RequestOpts{OkCodes: []int{http.StatusOK}}) //nolint:bodyclose // it is read and closed
	return err
}

var done = []int{http.StatusOK, http.StatusCreated, http.StatusAccepted, http.StatusNoContent}

func (r rest) post(ctx context.Context, body, out any, path ...string) error {
	_, err := r.client.Post(ctx, r.url(nil, path...), body, out, &gophercloud.RequestOpts{OkCodes: done}) //nolint:bodyclose // it is read and closed
	return err
}

func (r rest) put(ctx context.Context, body any, path ...string) error {
	_, err := r.client.Put(ctx, r.url(nil, path...), body, nil, &gophercloud.RequestOpts{OkCodes: done}) //nolint:bodyclose // it is read and closed
	return err
}

func (r rest) patch(ctx context.Context, body any, path ...string) error {
	_, err := r.client.Patch(ctx, r.url(nil, path...), body, nil, &gophercloud.RequestOpts{OkCodes: done}) //nolint:bodyclose // it is read and closed
	return err
}

func (r rest) delete(ctx context.Context, path ...string) error {
	_, err := r.client.Delete(ctx, r.url(nil, path...), &gophercloud.RequestOpts{OkCodes: done}) //nolint:bodyclose // it is read and closed
	if trove.IsNotFound(err) {
		return nil
	}
	return err
}

// query makes the parameters of a question from pairs.
func query(pairs ...string) url.Values {
	q := url.Values{}
	for n := 0; n+1 < len(pairs); n += 2 {
		q.Set(pairs[n], pairs[n+1])
	}
	return q
}

// byNameOrID is a filter for a name, or for an id where that is one.
func byNameOrID(ref string) (key string) {
	if trove.ValidID(ref) || len(ref) == 32 && strings.Trim(ref, "0123456789abcdef") == "" {
		return "id"
	}
	return "name"
}
