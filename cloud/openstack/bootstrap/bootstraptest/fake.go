// Package bootstraptest is an OpenStack in memory, as far as a bootstrap asks for one: for tests of package bootstrap and of the program that calls it.
package bootstraptest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/trove-dbaas/trove/cloud/openstack/bootstrap"
)

// AdminPassword is the password of the user admin, who may everything.
const AdminPassword = "the-password-of-the-administrator"

// Object is one of a collection, as it is in JSON.
type Object = map[string]any

// Fake is an OpenStack in memory: collections of objects that are found by their fields, as far as a bootstrap asks for them. It refuses what it does not
// know, so that a question that a real service would not understand is not overlooked.
type Fake struct {
	*httptest.Server
	mu      sync.Mutex
	All     map[string][]Object // by the name of the collection in its URL
	Quotas  map[string]Object   // by service
	Data    map[string]string   // of images
	changes []string            // calls that change something
	Console string              // what servers say
	next    int
	Page    int                           // how many flavors or images are listed at once, whatever was asked for; 0: all
	Before  func(call string) (fail bool) // asked before each call that changes something; nil: none fails
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
	"image/v2/images":                   {"", "images", "trove_datastore trove_version os_hidden owner"}, // and by pages
}

// New starts one, with a project service, a role admin, and an agent of Neutron on the host lab1.
func New(t *testing.T) *Fake {
	f := &Fake{All: map[string][]Object{}, Data: map[string]string{}}
	f.Quotas = map[string]Object{
		"compute": {"instances": 10, "cores": 20, "ram": 51200, "server_groups": 10, "server_group_members": 10},
		"volume":  {"volumes": 10, "gigabytes": 1000, "snapshots": 10},
		"network": {"port": -1, "security_group": 10, "security_group_rule": 100, "floatingip": 50},
	}
	f.Put("identity/v3/domains", Object{"id": "default", "name": "Default"})
	f.Put("identity/v3/projects", Object{"id": "p-service", "name": "service", "domain_id": "default"})
	f.Put("identity/v3/roles", Object{"id": "r-admin", "name": "admin"})
	f.Put("network/v2.0/agents", Object{"id": "a1", "host": "lab1", "agent_type": bootstrap.AgentLinuxBridge, "alive": true})
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

// Put adds an object to a collection.
func (f *Fake) Put(path string, o Object) Object {
	f.All[path] = append(f.All[path], o)
	return o
}

// One returns the only object of a collection with a field.
func (f *Fake) One(t *testing.T, path, field string, value any) Object {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	var found []Object
	for _, o := range f.All[path] {
		if o[field] == value {
			found = append(found, o)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d of %s have %s %v: %v", len(found), path, field, value, f.All[path])
	}
	return found[0]
}

// Made returns the changes since the last call.
func (f *Fake) Made() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.changes
	f.changes = nil
	return c
}

// ServeHTTP answers.
func (f *Fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	path := strings.Trim(r.URL.Path, "/")
	if path == "identity/v3/auth/tokens" {
		f.login(w, r)
		return
	}
	if r.Header.Get("X-Auth-Token") != "admins" {
		answer(w, http.StatusUnauthorized, Object{"error": Object{"message": "no token"}})
		return
	}
	call := r.Method + " " + path
	if r.Method != http.MethodGet {
		f.changes = append(f.changes, call)
	}
	if r.Method != http.MethodGet && f.Before != nil && f.Before(call) {
		answer(w, http.StatusInternalServerError, Object{"error": Object{"message": "broken"}})
		return
	}
	for _, h := range []func(http.ResponseWriter, *http.Request, string) bool{f.special, f.quota, f.collection} {
		if h(w, r, path) {
			return
		}
	}
	answer(w, http.StatusBadRequest, Object{"badRequest": Object{"message": "the fake does not know " + call + "?" + r.URL.RawQuery}})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Openstack-Request-Id", "req-fake")
	w.WriteHeader(status)
	if body != nil {
		_ = json.NewEncoder(w).Encode(body)
	}
}

func (f *Fake) login(w http.ResponseWriter, r *http.Request) {
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
	ok := user.Name == "admin" && user.Password == AdminPassword
	for _, u := range f.All["identity/v3/users"] {
		ok = ok || (u["id"] == user.ID || u["name"] == user.Name) && u["password"] == user.Password
	}
	if !ok {
		answer(w, http.StatusUnauthorized, Object{"error": Object{"message": "The request you have made requires authentication."}})
		return
	}
	var catalog []Object
	for service, path := range map[string]string{
		"identity": "/identity/v3", "network": "/network", "compute": "/compute/v2.1", "block-storage": "/volume/v3/p-admin", "image": "/image",
	} {
		catalog = append(catalog, Object{"type": service, "endpoints": []Object{
			{"interface": "public", "region": "R", "region_id": "R", "url": f.URL + path}, {"interface": "internal", "region": "R", "region_id": "R", "url": f.URL + path},
		}})
	}
	w.Header().Set("X-Subject-Token", "admins")
	answer(w, http.StatusCreated, Object{"token": Object{"user": Object{"id": "u-admin"}, "project": Object{"id": "p-admin"}, "catalog": catalog}})
}

// special are the calls that are not about an object of a collection.
func (f *Fake) special(w http.ResponseWriter, r *http.Request, path string) bool {
	parts := strings.Split(path, "/")
	last := parts[len(parts)-1]
	switch {
	case path == "identity/v3/role_assignments":
		var granted []Object
		for _, o := range f.All["grants"] {
			if o["id"] == r.URL.Query().Get("scope.project.id")+" "+r.URL.Query().Get("user.id")+" "+r.URL.Query().Get("role.id") {
				granted = append(granted, o)
			}
		}
		answer(w, http.StatusOK, Object{"role_assignments": granted})
	case r.Method == http.MethodPut && len(parts) == 8 && parts[6] == "roles":
		f.Put("grants", Object{"id": parts[3] + " " + parts[5] + " " + parts[7]})
		answer(w, http.StatusNoContent, nil)
	case strings.HasPrefix(path, "network/v2.0/network-ip-availabilities/"):
		var subnets []Object
		for _, s := range f.All["network/v2.0/subnets"] {
			subnets = append(subnets, Object{"subnet_id": s["id"], "used_ips": 3, "total_ips": 250})
		}
		answer(w, http.StatusOK, Object{"network_ip_availability": Object{"subnet_ip_availability": subnets}})
	case path == "compute/v2.1/flavors/detail":
		f.flavors(w, r.URL.Query().Get("marker"))
	case last == "os-flavor-access":
		answer(w, http.StatusOK, Object{"flavor_access": f.All["access "+parts[3]]})
	case last == "action" && parts[2] == "servers":
		answer(w, http.StatusOK, Object{"output": f.Console})
	case last == "action":
		f.Put("access "+parts[3], Object{"tenant_id": read(r)["addTenantAccess"].(Object)["tenant"]})
		answer(w, http.StatusOK, Object{})
	case last == "file":
		data, _ := io.ReadAll(r.Body)
		f.Data[parts[3]] = string(data)
		for _, i := range f.All["image/v2/images"] {
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

// flavors lists those after the marker, as Nova does with a max_limit of its own.
func (f *Fake) flavors(w http.ResponseWriter, marker string) {
	all := f.All["compute/v2.1/flavors"]
	all = all[slices.IndexFunc(all, func(o Object) bool { return o["id"] == marker })+1:]
	body := Object{"flavors": all}
	if f.Page > 0 && len(all) >= f.Page {
		body["flavors"] = all[:f.Page]
		body["flavors_links"] = []Object{{"rel": "next", "href": f.URL + "/compute/v2.1/flavors/detail"}}
	}
	answer(w, http.StatusOK, body)
}

// images are those after the marker, with the way to further ones, as Glance lists them.
func (f *Fake) images(all []Object, marker string) Object {
	all = all[slices.IndexFunc(all, func(o Object) bool { return o["id"] == marker })+1:]
	if f.Page == 0 || len(all) <= f.Page {
		return Object{"images": all}
	}
	all = all[:f.Page]
	return Object{"images": all, "next": fmt.Sprintf("/v2/images?marker=%v", all[f.Page-1]["id"])}
}

func read(r *http.Request) Object {
	var o Object
	_ = json.NewDecoder(r.Body).Decode(&o)
	return o
}

func (f *Fake) quota(w http.ResponseWriter, r *http.Request, path string) bool {
	service, rest, _ := strings.Cut(path, "/")
	if !strings.Contains(rest, "quota") {
		return false
	}
	body := "quota_set"
	if service == "network" {
		body = "quota"
	}
	if r.Method == http.MethodPut {
		maps.Copy(f.Quotas[service], read(r)[body].(Object))
		answer(w, http.StatusOK, Object{})
		return true
	}
	limits := Object{"id": "p-service"}
	for name, limit := range f.Quotas[service] {
		limits[name] = Object{"limit": limit, "in_use": 1, "used": 1, "reserved": 0}
	}
	answer(w, http.StatusOK, Object{body: limits})
	return true
}

func (f *Fake) collection(w http.ResponseWriter, r *http.Request, path string) bool {
	if c, ok := collections[path]; ok {
		if r.Method == http.MethodPost {
			f.create(w, r, path, c.one)
			return true
		}
		var found []Object
		for _, o := range f.All[path] {
			if matches(o, r, c.by) {
				found = append(found, f.shown(path, o))
			}
		}
		for key := range r.URL.Query() {
			if key != "sort" && !slices.Contains(strings.Fields(c.by), key) && (key != "marker" || c.many != "images") {
				return false
			}
		}
		body := Object{c.many: found}
		if c.many == "images" {
			body = f.images(found, r.URL.Query().Get("marker"))
		}
		answer(w, http.StatusOK, body)
		return true
	}
	n := strings.LastIndex(path, "/")
	c, ok := collections[path[:max(n, 0)]]
	if !ok {
		return false
	}
	at := slices.IndexFunc(f.All[path[:n]], func(o Object) bool { return o["id"] == path[n+1:] })
	if at < 0 {
		answer(w, http.StatusNotFound, Object{"NeutronError": Object{"message": "it is not there"}})
		return true
	}
	switch r.Method {
	case http.MethodDelete:
		f.All[path[:n]] = slices.Delete(f.All[path[:n]], at, at+1)
		answer(w, http.StatusNoContent, nil)
	case http.MethodPut, http.MethodPatch:
		if c.one == "" { // Glance's list of changes
			f.All[path[:n]][at]["os_hidden"] = true
		} else {
			maps.Copy(f.All[path[:n]][at], read(r)[c.one].(Object))
		}
		answer(w, http.StatusOK, Object{})
	case http.MethodGet:
		answer(w, http.StatusOK, Object{c.one: f.All[path[:n]][at]})
	default:
		return false
	}
	return true
}

func matches(o Object, r *http.Request, by string) bool {
	for key := range strings.FieldsSeq(by) {
		if want := strings.Trim(r.URL.Query().Get(key), "^$"); want != "" && fmt.Sprint(o[key]) != want {
			return false
		}
	}
	return true
}

// shown is an object as it is listed: a security group has its rules in it.
func (f *Fake) shown(path string, o Object) Object {
	if path != "network/v2.0/security-groups" {
		return o
	}
	o = maps.Clone(o)
	rules := []Object{}
	for _, r := range f.All["network/v2.0/security-group-rules"] {
		if r["security_group_id"] == o["id"] {
			rules = append(rules, r)
		}
	}
	o["security_group_rules"] = rules
	return o
}

func (f *Fake) create(w http.ResponseWriter, r *http.Request, path, one string) {
	o := read(r)
	if one != "" {
		o = o[one].(Object)
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
			f.Put("network/v2.0/security-group-rules", Object{
				"id": fmt.Sprintf("rule-%d", f.next), "security_group_id": o["id"], "direction": "egress", "ethertype": family,
				"protocol": nil, "port_range_min": nil, "port_range_max": nil, "remote_ip_prefix": nil, "remote_group_id": nil,
			})
		}
	case "network/v2.0/ports":
		o["mac_address"], o["status"], o["binding:vif_type"] = "fa:16:3e:00:00:01", "DOWN", "bridge"
		if o["fixed_ips"] == nil {
			o["fixed_ips"] = []Object{{"subnet_id": "any", "ip_address": "10.224.0.20"}}
		}
	case "compute/v2.1/servers":
		o["status"] = "ACTIVE"
	case "volume/v3/p-admin/volumes":
		o["status"] = "available"
	case "image/v2/images":
		o["status"], o["os_hidden"] = "queued", false
		f.Put(path, o)
		answer(w, http.StatusCreated, o)
		return
	}
	f.Put(path, o)
	answer(w, http.StatusCreated, Object{one: f.shown(path, o)})
}
