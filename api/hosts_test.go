package api_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/cloud"
)

// owning is a catalogue of a cloud that owns its machines.
type owning struct {
	*fakeCatalog
	hosts []cloud.Host
}

func (o owning) Hosts(context.Context) ([]cloud.Host, error) { return o.hosts, nil }

func TestHostStatus(t *testing.T) {
	w := newWorld(t, nil, nil)
	if rec := w.ask(t, "admin", http.MethodGet, "/mgmt/host-status", ""); rec.Code != http.StatusNotImplemented {
		t.Errorf("a cloud that does not know its machines: %d %s", rec.Code, rec.Body)
	}
	w.config.Catalog = owning{newCatalog(), []cloud.Host{{
		Name: "m1", Volumes: cloud.Amount{Total: 4, Promised: 3, Used: 2, Left: 1}, Running: 5, Warnings: []cloud.Warning{{Of: "volumes", Sentence: "Little is left."}},
	}}}
	w.rebuild(t)
	if rec := w.ask(t, "member", http.MethodGet, "/mgmt/host-status", ""); rec.Code != http.StatusForbidden {
		t.Errorf("a member: %d %s", rec.Code, rec.Body)
	}
	var got wire.HostList
	w.must(t, http.StatusOK, "admin", http.MethodGet, "/mgmt/host-status", "", &got)
	want := wire.HostList{Hosts: []wire.Host{{
		Name: "m1", Volumes: wire.Amount{Total: 4, Promised: 3, Used: 2, Left: 1}, Running: 5, Warnings: []wire.HostWarning{{Of: "volumes", Sentence: "Little is left."}},
	}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
