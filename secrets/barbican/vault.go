package barbican

import (
	"context"
	"fmt"
	"net/url"
	"path"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/keymanager/v1/containers"
	"github.com/gophercloud/gophercloud/v2/openstack/keymanager/v1/secrets"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
	tenants "github.com/trove-dbaas/trove/secrets"
)

// Vault reads secrets of tenants. Of a reference only the id counts: the request goes to the Barbican that the catalogue names, wherever the reference points.
type Vault struct {
	Session *osclient.Session
}

var _ tenants.Vault = Vault{}

// maxSecret bounds what is read; Barbican's own limit is below it unless an operator has raised that.
const maxSecret = 1 << 20

// Read implements secrets.Vault.
func (v Vault) Read(ctx context.Context, token trove.Secret, project, ref string) (map[string]trove.Secret, error) {
	kind, id, err := parse(ref)
	if err != nil {
		return nil, err
	}
	client, err := v.Session.As(token, project).KeyManager()
	if err != nil {
		return nil, fmt.Errorf("read a secret: %w", err)
	}
	if kind == "secrets" {
		payload, err := payload(ctx, client, ref, id)
		return map[string]trove.Secret{"": payload}, err
	}
	c, err := containers.Get(ctx, client, id).Extract()
	if err != nil {
		return nil, denied(ref, err)
	}
	parts := map[string]trove.Secret{}
	for _, each := range c.SecretRefs {
		kind, id, err := parse(each.SecretRef)
		if err != nil || kind != "secrets" {
			return nil, trove.Errorf(trove.KindBadRequest, "The container %s has a part that is no secret.", ref)
		}
		if parts[each.Name], err = payload(ctx, client, each.SecretRef, id); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// parse takes the kind of thing and its id out of a reference such as https://keys.example/v1/secrets/ID.
func parse(ref string) (kind, id string, err error) {
	bad := trove.Errorf(trove.KindBadRequest, "%.200q is no reference of Barbican: that ends with /v1/secrets/ID or /v1/containers/ID.", ref)
	u, perr := url.Parse(ref)
	if perr != nil || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
		return "", "", bad
	}
	kind, id = path.Base(path.Dir(u.Path)), path.Base(u.Path)
	if kind != "secrets" && kind != "containers" || !trove.ValidID(id) || !strings.HasSuffix(path.Dir(path.Dir(u.Path)), "/v1") {
		return "", "", bad
	}
	return kind, id, nil
}

// payload reads what a secret is, in the type that it was stored in.
func payload(ctx context.Context, client *gophercloud.ServiceClient, ref, id string) (trove.Secret, error) {
	s, err := secrets.Get(ctx, client, id).Extract()
	if err != nil {
		return "", denied(ref, err)
	}
	content := s.ContentTypes["default"]
	if content == "" {
		return "", trove.Errorf(trove.KindBadRequest, "The secret %s has no payload.", ref)
	}
	if kind, _, _ := strings.Cut(content, ";"); kind == "text/plain" {
		content = kind // Barbican adds the character set and does not take it back
	}
	data, err := secrets.GetPayload(ctx, client, id, secrets.GetPayloadOpts{PayloadContentType: content}).Extract()
	if err != nil {
		return "", denied(ref, err)
	}
	if len(data) > maxSecret {
		return "", trove.Errorf(trove.KindBadRequest, "The secret %s has more than %d bytes.", ref, maxSecret)
	}
	return trove.Secret(data), nil
}

// denied says which secret it is that the caller may not read.
func denied(ref string, err error) error {
	switch trove.KindOf(err) {
	case trove.KindForbidden:
		return trove.Wrap(trove.KindForbidden, err, "You may not read the secret %s.", ref)
	case trove.KindNotFound:
		return trove.Wrap(trove.KindNotFound, err, "There is no secret %s.", ref)
	}
	return fmt.Errorf("read the secret %s: %w", ref, osclient.Told(err))
}
