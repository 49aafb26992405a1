package openstack_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
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

// request is one that names something of another project.
type request struct {
	what   string
	asks   string // the service that is asked with the caller's token; "": the cloud is asked for nothing
	status int
	says   string
	ask    func() error
}

// TestFaultsForeign names things of another project in requests. The answer is 403 or 404, and what the cloud was asked for on the way was asked with the rights of the
// caller: the proxies in front of our processes see every request and know whose token it has. Keystone's answers about tokens are the one thing that is ours.
func TestFaultsForeign(t *testing.T) {
	w := newWorld(t, "")
	table := newEvidence(t, "## Things of another project named in a request\n\n| what | answer | requests with the caller's rights | with the service's |\n| --- | --- | --- | --- |")
	w.logContainers()
	id := w.create(w.spec("foreign"))
	if op := w.ends(id, trove.OpCreate); op.State != "done" {
		t.Fatalf("create: %s %s", op.State, op.Error)
	}
	w.publish(id)
	requests := append(w.foreignNetworks(), w.foreignThings(id)...)
	there := w.inventory()
	for _, r := range requests {
		t.Run(strings.ReplaceAll(r.what, " ", "_"), func(t *testing.T) {
			defer w.within(t)()
			message, calls := w.refused(r)
			table.line("| %s | %d %s | %d | 0 |", r.what, r.status, message, calls)
		})
	}
	w.same("after what was refused", there)
	w.ownNetwork(w.thing("network", "/v2.0/subnets?network_id="+w.network, "subnets"))
	w.remove(id)
}

// creates makes an instance that is asked for with a change.
func (w *world) creates(change func(*wire.InstanceCreate)) func() error {
	return func() error {
		spec := w.spec("foreign-2")
		change(&spec)
		_, err := w.client.CreateInstance(w.t.Context(), spec)
		return err //nolint:wrapcheck // looked at as it is
	}
}

// foreignNetworks are creates on networks of others.
func (w *world) foreignNetworks() []request {
	w.t.Helper()
	nic := func(n wire.NIC) func() error {
		return w.creates(func(i *wire.InstanceCreate) { i.NICs = []wire.NIC{n} })
	}
	network := w.thing("network", "/v2.0/networks?name=other-tenant", "networks")
	subnet := w.thing("network", "/v2.0/subnets?network_id="+network, "subnets")
	own := w.thing("network", "/v2.0/subnets?network_id="+w.network, "subnets")
	management := w.thing("network", "/v2.0/networks?name="+cmp.Or(os.Getenv("LAB_MANAGEMENT"), "trove-management"), "networks")
	const noNetwork, noSubnet = "network_id in nics) cannot be found", "subnet_id in nics) cannot be found"
	return []request{
		{"a network", "Neutron", 404, noNetwork, nic(wire.NIC{NetID: network})},
		{"a subnet", "Neutron", 404, noSubnet, nic(wire.NIC{SubnetID: subnet})},
		{"a network with its subnet", "Neutron", 404, noNetwork, nic(wire.NIC{NetID: network, SubnetID: subnet})},
		{"a network with a subnet of the caller's own", "Neutron", 404, noNetwork, nic(wire.NIC{NetID: network, SubnetID: own})},
		{"a subnet in a network of the caller's own", "Neutron", 404, noSubnet, nic(wire.NIC{NetID: w.network, SubnetID: subnet})},
		{"a fixed address in a subnet", "Neutron", 404, noSubnet, nic(wire.NIC{SubnetID: subnet, IPAddress: "10.2.0.9"})},
		{"the management network", "Neutron", 404, noNetwork, nic(wire.NIC{NetID: management})},
	}
}

// foreignThings are all the other ones.
func (w *world) foreignThings(id string) []request {
	w.t.Helper()
	secret, private, kind := w.foreignSecret(), w.foreignFlavor(), w.foreignType()
	return []request{
		{"a flavor", "Nova", 400, private + " cannot be found", w.creates(func(i *wire.InstanceCreate) { i.FlavorRef = wire.Ref(private) })},
		{"a flavor in a resize", "Nova", 400, private + " cannot be found", func() error { return w.client.ResizeFlavor(w.t.Context(), id, private) }},
		{"a volume type", "Cinder", 404, "type in volume) cannot be found", w.creates(func(i *wire.InstanceCreate) { i.Volume.Type = &kind })},
		{"a secret", "Barbican", 403, secret, func() error { return w.enableSSL(id, secret) }},
		{"objects: a published log of another project's instance", "", 404, id + " cannot be found", func() error {
			return w.clientOf("other").ReadLog(w.t.Context(), id, "error", 0, io.Discard)
		}},
		{"an object as a backup to register", "", 501, "not read objects", func() error {
			_, err := w.client.CreateBackup(w.t.Context(), wire.BackupCreate{Name: "foreign", RestoreFrom: &wire.RestoreFrom{
				RemoteLocation: "http://10.77.0.1:8080/v1/AUTH_" + w.lab().Project("other") + "/database_backups/x.xbstream.gz.enc", VersionID: w.things.version, Size: 1,
			}})
			return err //nolint:wrapcheck // looked at as it is
		}},
	}
}

// refused makes a request that must be refused, and returns what was said and how often the cloud was asked with the caller's rights.
func (w *world) refused(r request) (message string, calls int) {
	w.t.Helper()
	for _, p := range w.proxies {
		p.take()
	}
	err := r.ask()
	time.Sleep(time.Second) // what goes on behind the answer
	e, ok := errors.AsType[*client.Error](err)
	if !ok || e.Status != r.status || !strings.Contains(e.Message, r.says) {
		w.t.Fatalf("answered with %v, want %d with %q", err, r.status, r.says)
	}
	callers, ours := split(w.proxies["api"].take())
	if len(ours) > 0 {
		w.t.Errorf("the API asked the cloud with the service's rights:\n%s", told(ours))
	}
	if asked := slices.ContainsFunc(callers, func(c call) bool { return c.Service == r.asks }); r.asks == "" && len(callers) > 0 || r.asks != "" && !asked {
		w.t.Errorf("the cloud was asked with the caller's rights for\n%s, want something of %q", told(callers), r.asks)
	}
	for _, part := range []string{"taskmanager", "conductor"} {
		if did := slices.DeleteFunc(w.proxies[part].take(), func(c call) bool { return !c.changes() }); len(did) > 0 {
			w.t.Errorf("the %s changed something in the cloud:\n%s", part, told(did))
		}
	}
	return e.Message, len(callers)
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
