package openstack_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
	"github.com/trove-dbaas/trove/tests/openstack"
)

// TestFaultsForeign names things of another project in requests. The answer is 403 or 404, or the 400 of what is not there, and what the cloud was asked for on the way was asked with the rights of the
// caller: the proxies in front of our processes see every request and know whose token it has. Keystone's answers about tokens are the one thing that is ours.
func TestFaultsForeign(t *testing.T) {
	w := newWorld(t, "")
	table := newEvidence(t, "## Things of another project named in a request\n\n| what | answer | requests with the caller's rights | with the service's |\n| --- | --- | --- | --- |")
	network := w.thing("network", "/v2.0/networks?name=other-tenant", "networks")
	subnet := w.thing("network", "/v2.0/subnets?network_id="+network, "subnets")
	own := w.thing("network", "/v2.0/subnets?network_id="+w.network, "subnets")
	secret, private, kind := w.foreignSecret(), w.foreignFlavor(), w.foreignType()
	id := w.create(w.spec("foreign"))
	if op := w.ends(id, trove.OpCreate); op.State != "done" {
		t.Fatalf("create: %s %s", op.State, op.Error)
	}
	there := w.inventory()
	creates := func(change func(*wire.InstanceCreate)) func() error {
		return func() error {
			spec := w.spec("foreign-2")
			change(&spec)
			_, err := w.client.CreateInstance(t.Context(), spec)
			return err //nolint:wrapcheck // looked at as it is
		}
	}
	nics := func(nics ...wire.NIC) func() error {
		return creates(func(i *wire.InstanceCreate) { i.NICs = nics })
	}
	for _, tt := range []struct {
		what, asks string // the service that is asked with the caller's token
		ask        func() error
	}{
		{"a network", "Neutron", nics(wire.NIC{NetID: network})},
		{"a subnet", "Neutron", nics(wire.NIC{SubnetID: subnet})},
		{"a subnet of another project's network", "Neutron", nics(wire.NIC{NetID: network, SubnetID: subnet})},
		{"the management network", "Neutron", nics(wire.NIC{NetID: w.thing("network", "/v2.0/networks?name=trove-management", "networks")})},
		{"a flavor", "Nova", creates(func(i *wire.InstanceCreate) { i.FlavorRef = wire.Ref(private) })},
		{"a flavor in a resize", "Nova", func() error { return w.client.ResizeFlavor(t.Context(), id, private) }},
		{"a volume type", "Cinder", creates(func(i *wire.InstanceCreate) { i.Volume.Type = &kind })},
		{"a secret", "Barbican", func() error { return w.enableSSL(id, secret) }},
	} {
		t.Run(strings.ReplaceAll(tt.what, " ", "_"), func(t *testing.T) {
			for _, p := range w.proxies {
				p.take()
			}
			err := tt.ask()
			time.Sleep(time.Second) // what goes on behind the answer
			e, ok := errors.AsType[*client.Error](err)
			if !ok || !refusedAsUnknown(e) {
				t.Fatalf("answered with %+v, want 403, 404 or the 400 of what is not there", e)
			}
			callers, ours := split(w.proxies["api"].take())
			if len(ours) > 0 {
				t.Errorf("the API asked the cloud with the service's rights:\n%s", told(ours))
			}
			if !slices.ContainsFunc(callers, func(c call) bool { return c.Service == tt.asks }) {
				t.Errorf("%s was not asked with the caller's rights, so nothing was shown: %v", tt.asks, told(callers))
			}
			for _, part := range []string{"taskmanager", "conductor"} {
				if did := slices.DeleteFunc(w.proxies[part].take(), func(c call) bool { return !c.changes() }); len(did) > 0 {
					t.Errorf("the %s changed something in the cloud:\n%s", part, told(did))
				}
			}
			table.line("| %s | %d %s | %d | 0 |", tt.what, e.Status, e.Message, len(callers))
		})
	}
	w.same("after what was refused", there)
	w.ownNetwork(own)
	w.remove(id)
}

// enableSSL names a secret for the certificate of an instance, which our client's verbs cannot.
func (w *world) enableSSL(id, ref string) error {
	rc, err := openstack.ReadRC(filepath.Join(state, "demorc"))
	if err != nil {
		return err
	}
	token, err := w.lab().Token(w.t.Context(), rc["OS_USERNAME"], trove.Secret(rc["OS_PASSWORD"]), rc["OS_PROJECT_NAME"])
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{"ssl": map[string]any{"enable": true, "container_ref": ref}})
	if err != nil {
		return err
	}
	address := fmt.Sprintf("http://%s/v1.0/%s/instances/%s/ssl", w.service.listen, w.lab().Project("demo"), id)
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("X-Auth-Token", token.Reveal())
	r.Header.Set("Content-Type", "application/json")
	answer, err := (&http.Client{Timeout: time.Minute}).Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode < http.StatusBadRequest {
		return nil
	}
	var said map[string]struct{ Message string }
	if err := json.NewDecoder(answer.Body).Decode(&said); err != nil {
		return err
	}
	e := &client.Error{Status: answer.StatusCode}
	for _, fault := range said {
		e.Message = fault.Message
	}
	return e
}

// refusedAsUnknown reports whether an answer is one that a thing of another project gets: 403, 404, or where a body names it the 400 with which Trove says that it
// cannot be found.
func refusedAsUnknown(e *client.Error) bool {
	switch e.Status {
	case http.StatusForbidden, http.StatusNotFound:
		return true
	}
	return e.Status == http.StatusBadRequest && strings.Contains(e.Message, "found")
}

// ownNetwork shows that the proxies see what the service does with its own rights: the same request for a network of the caller's own is taken, and the taskmanager makes
// ports and a server.
func (w *world) ownNetwork(subnet string) {
	w.t.Helper()
	for _, p := range w.proxies {
		p.take()
	}
	spec := w.spec("own")
	spec.NICs = []wire.NIC{{NetID: w.network, SubnetID: subnet}}
	id := w.create(spec)
	if op := w.ends(id, trove.OpCreate); op.State != "done" {
		w.t.Fatalf("create on the own subnet: %s %s", op.State, op.Error)
	}
	_, ours := split(w.proxies["taskmanager"].take())
	for _, service := range []string{"Nova", "Cinder", "Neutron"} {
		if !slices.ContainsFunc(ours, func(c call) bool { return c.Service == service && c.changes() }) {
			w.t.Errorf("no change of %s with the service's rights was seen in a create:\n%s", service, told(ours))
		}
	}
	w.remove(id)
}

// split parts calls into those with a caller's rights and those with the service's own, without what Keystone was asked.
func split(calls []call) (callers, ours []call) {
	for _, c := range calls {
		switch {
		case c.Service == "Keystone":
		case c.Ours:
			ours = append(ours, c)
		default:
			callers = append(callers, c)
		}
	}
	return callers, ours
}

// foreignSecret is one of the project other.
func (w *world) foreignSecret() string {
	w.t.Helper()
	var made struct {
		Ref string `json:"secret_ref"`
	}
	body := map[string]any{"name": "faults-" + unique, "payload": "nothing", "payload_content_type": "text/plain"}
	if err := w.lab().Ask(w.t.Context(), http.MethodPost, "other", "key-manager", "/v1/secrets", body, &made); err != nil {
		w.t.Fatal(err)
	}
	id := made.Ref[strings.LastIndex(made.Ref, "/")+1:]
	w.t.Cleanup(func() {
		if err := w.lab().Ask(noCancel(w.t), http.MethodDelete, "other", "key-manager", "/v1/secrets/"+id, nil, nil); err != nil {
			w.t.Error(err)
		}
	})
	return made.Ref
}

// foreignFlavor is one that only the project other may use.
func (w *world) foreignFlavor() string {
	w.t.Helper()
	var made struct{ Flavor struct{ ID string } }
	w.ask(http.MethodPost, "compute", "/flavors", map[string]any{"flavor": map[string]any{
		"name": "faults-private-" + unique, "ram": 64, "vcpus": 1, "disk": 1, "os-flavor-access:is_public": false,
	}}, &made)
	w.t.Cleanup(func() { w.ask(http.MethodDelete, "compute", "/flavors/"+made.Flavor.ID, nil, nil) })
	access := map[string]any{"addTenantAccess": map[string]any{"tenant": w.lab().Project("other")}}
	w.ask(http.MethodPost, "compute", "/flavors/"+made.Flavor.ID+"/action", access, nil)
	return made.Flavor.ID
}

// foreignType is a volume type that only the project other may use.
func (w *world) foreignType() string {
	w.t.Helper()
	name := "faults-private-" + unique
	var made struct {
		Type struct{ ID string } `json:"volume_type"`
	}
	w.ask(http.MethodPost, "block-storage", "/types", map[string]any{"volume_type": map[string]any{
		"name": name, "os-volume-type-access:is_public": false, "extra_specs": map[string]string{"volume_backend_name": "rbd"},
	}}, &made)
	w.t.Cleanup(func() { w.ask(http.MethodDelete, "block-storage", "/types/"+made.Type.ID, nil, nil) })
	access := map[string]any{"addProjectAccess": map[string]any{"project": w.lab().Project("other")}}
	w.ask(http.MethodPost, "block-storage", "/types/"+made.Type.ID+"/action", access, nil)
	return name
}
