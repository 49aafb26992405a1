package bootstrap_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/openstack/bootstrap"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
	"github.com/trove-dbaas/trove/internal/imagelayout"
)

const adminPassword = "the-password-of-the-administrator"

type object = map[string]any

// fake is an OpenStack in memory: collections of objects that are found by their fields, as far as a bootstrap asks for them. It refuses what it does not
// know, so that a question that a real service would not understand is not overlooked.
type fake struct {
	*httptest.Server
	mu      sync.Mutex
	all     map[string][]object // by the name of the collection in its URL
	quotas  map[string]object   // by service
	data    map[string]string   // of images
	changes []string            // calls that change something
	console string              // what servers say
	next    int
	before  func(call string) (fail bool) // asked before each call that changes something; nil: none fails
}

// collections by path, with the name of one object and of several in JSON, and what they can be asked for by.
var collections = map[string]struct{ one, many, by string }{
	"identity/v3/domains":               {"domain", "domains", "name"},
	"identity/v3/projects":              {"project", "projects", "name domain_id"},
	"identity/v3/users":                 {"user", "users", "name domain_id"},
	"identity/v3/roles":                 {"role", "roles", "name"},
	"identity/v3/services":              {"service", "services", "type"},
	"identity/v3/endpoints":             {"endpoint", "endpoints", "service_id"},
	"network/v2.0/networks":             {"network", "networks", "name id"},
	"network/v2.0/subnets":              {"subnet", "subnets", "network_id ip_version"},
	"network/v2.0/ports":                {"port", "ports", "name network_id device_owner"},
	"network/v2.0/agents":               {"agent", "agents", "host"},
	"network/v2.0/security-groups":      {"security_group", "security_groups", "name id project_id"},
	"network/v2.0/security-group-rules": {"security_group_rule", "security_group_rules", ""},
	"compute/v2.1/flavors":              {"flavor", "flavors", ""},
	"compute/v2.1/servers":              {"server", "servers", "name"},
	"volume/v3/p-admin/volumes":         {"volume", "volumes", "name"},
	"image/v2/images":                   {"", "images", "trove_datastore trove_version os_hidden owner"},
}

func newFake(t *testing.T) *fake {
	f := &fake{all: map[string][]object{}, data: map[string]string{}}
	f.quotas = map[string]object{
		"compute": {"instances": 10, "cores": 20, "ram": 51200, "server_groups": 10, "server_group_members": 10},
		"volume":  {"volumes": 10, "gigabytes": 1000, "snapshots": 10},
		"network": {"port": -1, "security_group": 10, "security_group_rule": 100, "floatingip": 50},
	}
	f.put("identity/v3/domains", object{"id": "default", "name": "Default"})
	f.put("identity/v3/projects", object{"id": "p-service", "name": "service", "domain_id": "default"})
	f.put("identity/v3/roles", object{"id": "r-admin", "name": "admin"})
	f.put("network/v2.0/agents", object{"id": "a1", "host": "lab1", "agent_type": bootstrap.AgentLinuxBridge, "alive": true})
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fake) put(path string, o object) object {
	f.all[path] = append(f.all[path], o)
	return o
}

// one returns the only object of a collection with a field.
func (f *fake) one(t *testing.T, path, field string, value any) object {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	var found []object
	for _, o := range f.all[path] {
		if o[field] == value {
			found = append(found, o)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d of %s have %s %v: %v", len(found), path, field, value, f.all[path])
	}
	return found[0]
}

// made returns the changes since the last call.
func (f *fake) made() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.changes
	f.changes = nil
	return c
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	path := strings.Trim(r.URL.Path, "/")
	if path == "identity/v3/auth/tokens" {
		f.login(w, r)
		return
	}
	if r.Header.Get("X-Auth-Token") != "admins" {
		answer(w, http.StatusUnauthorized, object{"error": object{"message": "no token"}})
		return
	}
	call := r.Method + " " + path
	if r.Method != http.MethodGet {
		f.changes = append(f.changes, call)
	}
	if r.Method != http.MethodGet && f.before != nil && f.before(call) {
		answer(w, http.StatusInternalServerError, object{"error": object{"message": "broken"}})
		return
	}
	for _, h := range []func(http.ResponseWriter, *http.Request, string) bool{f.special, f.quota, f.collection} {
		if h(w, r, path) {
			return
		}
	}
	answer(w, http.StatusBadRequest, object{"badRequest": object{"message": "the fake does not know " + call + "?" + r.URL.RawQuery}})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Openstack-Request-Id", "req-fake")
	w.WriteHeader(status)
	if body != nil {
		_ = json.NewEncoder(w).Encode(body)
	}
}

func (f *fake) login(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Auth struct {
			Identity struct {
				Password struct {
					User struct{ ID, Name, Password string } `json:"user"`
				} `json:"password"`
			} `json:"identity"`
		} `json:"auth"`
	}
	_ = json.NewDecoder(r.Body).Decode(&body)
	user := body.Auth.Identity.Password.User
	ok := user.Name == "admin" && user.Password == adminPassword
	for _, u := range f.all["identity/v3/users"] {
		ok = ok || u["id"] == user.ID && u["password"] == user.Password
	}
	if !ok {
		answer(w, http.StatusUnauthorized, object{"error": object{"message": "The request you have made requires authentication."}})
		return
	}
	var catalog []object
	for service, path := range map[string]string{
		"identity": "/identity/v3", "network": "/network", "compute": "/compute/v2.1", "block-storage": "/volume/v3/p-admin", "image": "/image",
	} {
		catalog = append(catalog, object{"type": service, "endpoints": []object{{"interface": "public", "region": "R", "region_id": "R", "url": f.URL + path}}})
	}
	w.Header().Set("X-Subject-Token", "admins")
	answer(w, http.StatusCreated, object{"token": object{"user": object{"id": "u-admin"}, "project": object{"id": "p-admin"}, "catalog": catalog}})
}

// special are the calls that are not about an object of a collection.
func (f *fake) special(w http.ResponseWriter, r *http.Request, path string) bool {
	parts := strings.Split(path, "/")
	last := parts[len(parts)-1]
	switch {
	case path == "identity/v3/role_assignments":
		var granted []object
		for _, o := range f.all["grants"] {
			if o["id"] == r.URL.Query().Get("scope.project.id")+" "+r.URL.Query().Get("user.id")+" "+r.URL.Query().Get("role.id") {
				granted = append(granted, o)
			}
		}
		answer(w, http.StatusOK, object{"role_assignments": granted})
	case r.Method == http.MethodPut && len(parts) == 8 && parts[6] == "roles":
		f.put("grants", object{"id": parts[3] + " " + parts[5] + " " + parts[7]})
		answer(w, http.StatusNoContent, nil)
	case strings.HasPrefix(path, "network/v2.0/network-ip-availabilities/"):
		var subnets []object
		for _, s := range f.all["network/v2.0/subnets"] {
			subnets = append(subnets, object{"subnet_id": s["id"], "used_ips": 3, "total_ips": 250})
		}
		answer(w, http.StatusOK, object{"network_ip_availability": object{"subnet_ip_availability": subnets}})
	case path == "compute/v2.1/flavors/detail":
		answer(w, http.StatusOK, object{"flavors": f.all["compute/v2.1/flavors"]})
	case last == "os-flavor-access":
		answer(w, http.StatusOK, object{"flavor_access": f.all["access "+parts[3]]})
	case last == "action" && parts[2] == "servers":
		answer(w, http.StatusOK, object{"output": f.console})
	case last == "action":
		f.put("access "+parts[3], object{"tenant_id": read(r)["addTenantAccess"].(object)["tenant"]})
		answer(w, http.StatusOK, object{})
	case last == "file":
		data, _ := io.ReadAll(r.Body)
		f.data[parts[3]] = string(data)
		for _, i := range f.all["image/v2/images"] {
			if i["id"] == parts[3] {
				i["status"] = "active"
			}
		}
		answer(w, http.StatusNoContent, nil)
	default:
		return false
	}
	return true
}

func read(r *http.Request) object {
	var o object
	_ = json.NewDecoder(r.Body).Decode(&o)
	return o
}

func (f *fake) quota(w http.ResponseWriter, r *http.Request, path string) bool {
	service, rest, _ := strings.Cut(path, "/")
	if !strings.Contains(rest, "quota") {
		return false
	}
	body := "quota_set"
	if service == "network" {
		body = "quota"
	}
	if r.Method == http.MethodPut {
		maps.Copy(f.quotas[service], read(r)[body].(object))
		answer(w, http.StatusOK, object{})
		return true
	}
	limits := object{"id": "p-service"}
	for name, limit := range f.quotas[service] {
		limits[name] = object{"limit": limit, "in_use": 1, "used": 1, "reserved": 0}
	}
	answer(w, http.StatusOK, object{body: limits})
	return true
}

func (f *fake) collection(w http.ResponseWriter, r *http.Request, path string) bool {
	if c, ok := collections[path]; ok {
		if r.Method == http.MethodPost {
			f.create(w, r, path, c.one)
			return true
		}
		var found []object
		for _, o := range f.all[path] {
			if matches(o, r, c.by) {
				found = append(found, f.shown(path, o))
			}
		}
		for key := range r.URL.Query() {
			if key != "sort" && !slices.Contains(strings.Fields(c.by), key) {
				return false
			}
		}
		answer(w, http.StatusOK, object{c.many: found})
		return true
	}
	n := strings.LastIndex(path, "/")
	c, ok := collections[path[:max(n, 0)]]
	if !ok {
		return false
	}
	at := slices.IndexFunc(f.all[path[:n]], func(o object) bool { return o["id"] == path[n+1:] })
	if at < 0 {
		answer(w, http.StatusNotFound, object{"NeutronError": object{"message": "it is not there"}})
		return true
	}
	switch r.Method {
	case http.MethodDelete:
		f.all[path[:n]] = slices.Delete(f.all[path[:n]], at, at+1)
		answer(w, http.StatusNoContent, nil)
	case http.MethodPut, http.MethodPatch:
		if c.one == "" { // Glance's list of changes
			f.all[path[:n]][at]["os_hidden"] = true
		} else {
			maps.Copy(f.all[path[:n]][at], read(r)[c.one].(object))
		}
		answer(w, http.StatusOK, object{})
	case http.MethodGet:
		answer(w, http.StatusOK, object{c.one: f.all[path[:n]][at]})
	default:
		return false
	}
	return true
}

func matches(o object, r *http.Request, by string) bool {
	for key := range strings.FieldsSeq(by) {
		if want := strings.Trim(r.URL.Query().Get(key), "^$"); want != "" && fmt.Sprint(o[key]) != want {
			return false
		}
	}
	return true
}

// shown is an object as it is listed: a security group has its rules in it.
func (f *fake) shown(path string, o object) object {
	if path != "network/v2.0/security-groups" {
		return o
	}
	o = maps.Clone(o)
	rules := []object{}
	for _, r := range f.all["network/v2.0/security-group-rules"] {
		if r["security_group_id"] == o["id"] {
			rules = append(rules, r)
		}
	}
	o["security_group_rules"] = rules
	return o
}

func (f *fake) create(w http.ResponseWriter, r *http.Request, path, one string) {
	o := read(r)
	if one != "" {
		o = o[one].(object)
	}
	f.next++
	o["id"] = fmt.Sprintf("%08d-0000-4000-8000-%012d", f.next, f.next)
	switch path {
	case "network/v2.0/networks":
		o["mtu"], o["port_security_enabled"] = 1450, true
		if o["provider:network_type"] == nil {
			o["provider:network_type"], o["provider:segmentation_id"] = "vxlan", 77
		}
	case "network/v2.0/security-groups":
		for _, family := range []string{"IPv4", "IPv6"} {
			f.next++
			f.put("network/v2.0/security-group-rules", object{
				"id": fmt.Sprintf("rule-%d", f.next), "security_group_id": o["id"], "direction": "egress", "ethertype": family,
				"protocol": nil, "port_range_min": nil, "port_range_max": nil, "remote_ip_prefix": nil, "remote_group_id": nil,
			})
		}
	case "network/v2.0/ports":
		o["mac_address"], o["status"], o["binding:vif_type"] = "fa:16:3e:00:00:01", "DOWN", "bridge"
		if o["fixed_ips"] == nil {
			o["fixed_ips"] = []object{{"subnet_id": "any", "ip_address": "10.224.0.20"}}
		}
	case "compute/v2.1/servers":
		o["status"] = "ACTIVE"
	case "volume/v3/p-admin/volumes":
		o["status"] = "available"
	case "image/v2/images":
		o["status"], o["os_hidden"] = "queued", false
		f.put(path, o)
		answer(w, http.StatusCreated, o)
		return
	}
	f.put(path, o)
	answer(w, http.StatusCreated, object{one: f.shown(path, o)})
}

// session logs in as the administrator.
func (f *fake) session(t *testing.T) *osclient.Session {
	t.Helper()
	s, err := osclient.New(t.Context(), osclient.Config{
		AuthURL: f.URL + "/identity/v3", Username: "admin", Project: "admin", Region: "R", Interface: "public", Log: slog.New(slog.DiscardHandler),
		Password: func() (trove.Secret, error) { return adminPassword, nil },
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
