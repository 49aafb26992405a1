package bootstrap_test

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/openstack/bootstrap"
	"github.com/trove-dbaas/trove/cloud/openstack/bootstrap/bootstraptest"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
	"github.com/trove-dbaas/trove/internal/imagelayout"
)

type object = bootstraptest.Object

// session logs in as the administrator.
func session(t *testing.T, f *bootstraptest.Fake) *osclient.Session {
	t.Helper()
	s, err := osclient.New(t.Context(), osclient.Config{
		AuthURL: f.URL + "/identity/v3", Username: "admin", Project: "admin", Region: "R", Interface: "public", Log: slog.New(slog.DiscardHandler),
		Password: func() (trove.Secret, error) { return bootstraptest.AdminPassword, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// registry is a store of datastore versions.
type registry struct{ images map[string]string }

func (r *registry) VersionImage(_ context.Context, m imagelayout.Manifest) (string, error) {
	return r.images[m.Datastore+" "+m.Version], nil
}

func (r *registry) RegisterVersion(_ context.Context, m imagelayout.Manifest, image string) error {
	r.images[m.Datastore+" "+m.Version] = image
	return nil
}

// host is a machine whose interfaces are made in memory.
type host struct{ net bootstrap.HostNet }

func (h *host) Network(context.Context) (bootstrap.HostNet, error) { return h.net, nil }

func (h *host) Plug(_ context.Context, _, name string, _ bootstrap.Port, _ int, address netip.Prefix) error {
	h.net.Addresses = append(h.net.Addresses, bootstrap.HostAddress{Interface: name, Prefix: address})
	return nil
}

func (h *host) Guard(_ context.Context, bridge string) error {
	h.net.Guarded = append(h.net.Guarded, bridge)
	return nil
}
