package client

import (
	"context"
	"net/http"

	"github.com/trove-dbaas/trove/api/wire"
)

// SSL shows how TLS towards an instance's clients is; with payload the certificate comes too.
func (c *Client) SSL(ctx context.Context, instance string, payload bool) (wire.SSL, error) {
	path := instancePath(instance, "ssl")
	if payload {
		path += "?include_certificate=true"
	}
	var out wire.SSLBody
	err := c.do(ctx, http.MethodGet, path, nil, &out)
	return out.SSL, err
}

// ChangeSSL enables or disables TLS, or takes back the last change, and says whether a restart is needed for it.
func (c *Client) ChangeSSL(ctx context.Context, instance string, change wire.SSLAction) (restart bool, err error) {
	var out wire.SSLChangedBody
	err = c.do(ctx, http.MethodPost, instancePath(instance, "ssl"), wire.SSLActionBody{SSL: change}, &out)
	return out.SSL.RestartRequired, err
}
