// Package openstacktest is a small OpenStack in the process of a test: as much of Keystone, Nova, Cinder, Neutron and Glance as the driver uses, over HTTP, with
// knobs to refuse, break, slow down and lose. It is as strict as the real services where that finds mistakes: a volume has one server, a port too, a network has
// a hardware address once, quotas are kept, a token sees what is its project's.
//
// Its methods may be called from several goroutines.
package openstacktest

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// What there is from the beginning.
const (
	Password   = "service-password"
	Service    = "5e50000000000000000000000000ce00" // the project of the service user
	Tenant     = "7e4a0000000000000000000000000000" // a tenant's, with the network Network
	Other      = "07e40000000000000000000000000000" // another's, with the network OtherNetwork
	Network    = "11111111-0000-4000-8000-000000000001"
	Subnet     = "11111111-0000-4000-8000-0000000000a1" // 10.1.0.0/24
	OtherNet   = "22222222-0000-4000-8000-000000000001"
	Management = "33333333-0000-4000-8000-000000000001" // trove-management
	Public     = "44444444-0000-4000-8000-000000000001" // public, external
	Image      = "55555555-0000-4000-8000-000000000001"
	OldImage   = "55555555-0000-4000-8000-000000000002"
	TenantUser = "token-of-the-tenant"
	OtherUser  = "token-of-another"
)

// Object is a resource, as its service shows it.
type Object = map[string]any

// Cloud is the OpenStack.
type Cloud struct {
	*httptest.Server
	mux *http.ServeMux

	mu       sync.Mutex
	all      map[string]map[string]Object // kind, id
	order    int
	tokens   map[string]string // and the project of each
	logins   int
	steps    map[string]*step // what a thing becomes, by id
	actions  map[string][]Object
	requests []Request
	faults   []*Fault
	knobs    Knobs
	boot     func(instance string, userData []byte)
	halt     func(instance string)
}

// Knobs are what the cloud does otherwise than well.
type Knobs struct {
	Looks       int  // how often a thing is looked at until it is ready
	NoValidHost bool // servers find no host
	NoRoom      int  // so many servers find none
	NoBinding   bool // ports are not bound
	NotBuilt    int  // so many servers are built on no host
	SoftDelete  bool // servers that are deleted are kept, as with reclaim_instance_interval
	NoResize    bool // resizes find no host
	VolumeError bool // volumes fail
	Encrypted   bool // volumes are made encrypted
	NoExtend    bool // volumes cannot be grown
	Reserved    bool // volumes of servers that were never built stay reserved after these are gone
	Gigabytes   int  // quota of Cinder; 0: none
	Ports       int  // quota of Neutron; 0: none
	NoRouter    bool // the tenant's network leads nowhere

	Hosts        []string // of Nova; empty: host1 and host2
	Disabled     []string // those of them that take no servers
	NoMigrate    bool     // migrations fail
	SameHost     bool     // they may lead to the same host
	ServerGroups int      // quota of Nova; 0: none
}

// Request is what somebody asked.
type Request struct{ Method, Path, Query, Token, Microversion, Body string }

// Fault is an answer in place of the right one.
type Fault struct {
	Method, Path string // Path: how it begins, such as /compute/v2.1/servers
	Status       int
	Body         string
	Times        int           // how often, 0: always
	After        int           // so many requests that are answered rightly
	Lost         bool          // what was asked is done, and the answer does not arrive
	Delay        time.Duration // before anything is done
}

// step is what is still to happen to a thing.
type step struct {
	looks int
	then  func(Object)
}

// New starts an OpenStack that ends with the test.
func New(t *testing.T) *Cloud {
	t.Helper()
	c := &Cloud{
		mux: http.NewServeMux(), all: map[string]map[string]Object{}, tokens: map[string]string{TenantUser: Tenant, OtherUser: Other},
		steps: map[string]*step{}, actions: map[string][]Object{},
	}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	for id, o := range map[string]Object{
		Network:    {"name": "tenant", "project_id": Tenant, "subnets": []string{Subnet}, "mtu": 1450, "shared": false, "router:external": false},
		OtherNet:   {"name": "other", "project_id": Other, "subnets": []string{subnetOf(OtherNet)}, "mtu": 1450, "shared": false, "router:external": false},
		Management: {"name": "trove-management", "project_id": Service, "subnets": []string{subnetOf(Management)}, "mtu": 1500, "shared": false, "router:external": false},
		Public:     {"name": "public", "project_id": Service, "subnets": []string{subnetOf(Public)}, "mtu": 1500, "shared": false, "router:external": true},
	} {
		c.put("networks", id, o)
	}
	for net, cidr := range map[string]string{Network: "10.1.0", OtherNet: "10.2.0", Management: "10.77.0", Public: "172.24.4"} {
		c.put("subnets", subnetOf(net), Object{
			"network_id": net, "cidr": cidr + ".0/24", "gateway_ip": cidr + ".1", "dns_nameservers": []string{"192.0.2.53"}, "host_routes": []Object{},
			"project_id": c.all["networks"][net]["project_id"],
		})
	}
	c.put("security-groups", "66666666-0000-4000-8000-000000000001", Object{"name": "trove-management", "project_id": Service, "security_group_rules": []Object{}})
	for n, f := range []Object{{"name": "db.tiny", "ram": 512, "vcpus": 1}, {"name": "db.small", "ram": 1024, "vcpus": 1}, {"name": "db.large", "ram": 2048, "vcpus": 2}} {
		c.put("flavors", fmt.Sprint(n+1), f)
	}
	c.put("types", "77777777-0000-4000-8000-000000000001", Object{"name": "rbd", "is_public": true, "description": nil})
	for _, id := range []string{Image, OldImage} {
		c.put("images", id, Object{"status": "active", "size": 1 << 20, "virtual_size": nil, "min_disk": 2})
	}
	c.identity()
	c.nova()
	c.placement()
	c.cinder()
	c.neutron()
	c.handle("GET /image/v2/images/{id}", func(r *call) { r.one("images", "") })
	return c
}

func subnetOf(network string) string { return network[:len(network)-2] + "a1" }

// Set changes knobs.
func (c *Cloud) Set(change func(*Knobs)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.knobs)
}

// OnPower has boot called when a server starts, with its user data, and halt when it stops. Neither may call the cloud.
func (c *Cloud) OnPower(boot func(instance string, userData []byte), halt func(instance string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.boot, c.halt = boot, halt
}

// Break has requests answered by a fault; the returned function ends it.
func (c *Cloud) Break(f Fault) (mend func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, &f)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.faults = slices.DeleteFunc(c.faults, func(other *Fault) bool { return other == &f })
	}
}

// ExpireTokens ends all tokens of the service user.
func (c *Cloud) ExpireTokens() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for t := range c.tokens {
		if strings.HasPrefix(t, "service-") {
			delete(c.tokens, t)
		}
	}
}

// Logins returns how often the service user has logged in.
func (c *Cloud) Logins() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.logins
}

// Requests returns what was asked so far, without logins.
func (c *Cloud) Requests() []Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.requests)
}

// Objects returns copies of what there is of a kind, such as servers, volumes, ports, security-groups, floatingips.
func (c *Cloud) Objects(kind string) []Object {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Object
	for _, o := range c.sorted(kind) {
		var copied Object
		data, _ := json.Marshal(o)        // it came from JSON or literals
		_ = json.Unmarshal(data, &copied) // likewise
		out = append(out, copied)
	}
	return out
}

// Change alters what there is of a kind under a name, as somebody else would.
func (c *Cloud) Change(kind, name string, change func(Object)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.all[kind] {
		if o["name"] == name {
			change(o)
		}
	}
}

// Add puts another thing of a kind there, as a second worker would have made it.
func (c *Cloud) Add(kind string, o Object) (id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id = newID()
	c.put(kind, id, o)
	return id
}

// Drop takes a thing of a kind away, as somebody else would.
func (c *Cloud) Drop(kind, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leadNowhere(id)
	delete(c.all[kind], id)
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-8" + h[17:20] + "-" + h[20:]
}

// put keeps an object. The caller holds the lock, or nobody else has the cloud yet.
func (c *Cloud) put(kind, id string, o Object) Object {
	if c.all[kind] == nil {
		c.all[kind] = map[string]Object{}
	}
	c.order++
	at := time.Date(2026, 1, 1, 0, 0, c.order, 0, time.UTC).Format("2006-01-02T15:04:05")
	o["id"] = id
	for _, key := range []string{"created", "created_at"} {
		if o[key] == nil {
			o[key] = at
		}
	}
	c.all[kind][id] = o
	return o
}

func (c *Cloud) sorted(kind string) []Object {
	var all []Object
	for _, o := range c.all[kind] {
		all = append(all, o)
	}
	slices.SortFunc(all, func(a, b Object) int {
		return strings.Compare(fmt.Sprint(a["created"], a["id"]), fmt.Sprint(b["created"], b["id"]))
	})
	return all
}

// later has something happen to a thing after so many looks at it, or at once.
func (c *Cloud) later(id string, o Object, then func(Object)) {
	if c.knobs.Looks == 0 {
		then(o)
		return
	}
	c.steps[id] = &step{looks: c.knobs.Looks, then: then}
}

// look counts a look at a thing.
func (c *Cloud) look(o Object) {
	id, _ := o["id"].(string)
	s := c.steps[id]
	if s == nil {
		return
	}
	if s.looks--; s.looks <= 0 {
		delete(c.steps, id)
		s.then(o)
	}
}
