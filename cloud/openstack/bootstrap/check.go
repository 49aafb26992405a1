package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
)

// Level says how bad a finding is; the worst of them is the exit code.
type Level int

// The levels.
const (
	Fine    Level = iota
	Warning       // it works, and may not for long, or not as safely as it should
	Missing       // instances cannot be made or managed
)

// String returns the level in words.
func (l Level) String() string { return [...]string{"ok", "warning", "missing"}[l] }

// Finding is what a check says of one thing.
type Finding struct {
	Part    Part   `json:"part"`
	Name    string `json:"name"`
	Level   Level  `json:"-"`
	Detail  string `json:"detail"`
	Command string `json:"command,omitempty"` // that mends it, where there is one
}

// Parts that only a check has.
const (
	PartLogin Part = "login" // what the service user can do and see
	PartBus   Part = "bus"   // ports of the controllers
	PartProbe Part = "probe" // a guest
)

// Judge says what a plan means for a deployment that exists, and what runs out. It does no input or output.
func Judge(w Wanted, f Found, steps []Step) []Finding {
	var all []Finding
	for _, s := range steps {
		n := Finding{Part: s.Part, Name: s.Name, Detail: s.Detail}
		switch s.State {
		case There:
		case Make:
			n.Level, n.Detail, n.Command = Missing, "it is not there: "+s.Detail, w.command(s.Part)
		case Change:
			n.Level, n.Detail, n.Command = Missing, "to be mended: "+s.Detail, w.command(s.Part)
		case Refused:
			n.Level = Missing
		case Yours:
			n.Level = Warning
			if slices.Contains([]Part{PartInterface, PartPort, PartEndpoint, PartQuota}, s.Part) {
				n.Level = Missing
			}
		}
		all = append(all, n)
	}
	all = append(all, w.subnetLeft(f)...)
	return append(all, w.quotaLeft(f)...)
}

// command is the one that mends a part.
func (w Wanted) command(p Part) string {
	c := fmt.Sprintf("trove openstack bootstrap --instances %d --only %s", w.Size.Instances, p)
	if p == PartImage || p == PartVersion {
		c = fmt.Sprintf("trove openstack bootstrap --instances %d --only %s,%s --image FILE", w.Size.Instances, PartImage, PartVersion)
	}
	if p == PartConfig {
		c += " --write-config " + w.ConfigFile
	}
	return c
}

// fullShare is from which part on it is said that something runs out: four fifths.
const fullShare = 5

// subnetLeft warns before the addresses run out.
func (w Wanted) subnetLeft(f Found) []Finding {
	if len(f.Subnets) != 1 || !w.Has(PartSubnet) {
		return nil
	}
	s := f.Subnets[0]
	total := 0
	for _, p := range s.Pools {
		total += p.count()
	}
	left := total - s.Used
	n := Finding{Part: PartSubnet, Name: s.Name + " addresses", Detail: fmt.Sprintf("%d of %d are in use", s.Used, total)}
	switch {
	case left <= 0:
		n.Level, n.Detail = Missing, n.Detail+": no instance can be made until others are deleted"
	case left < max(headRoomLeast, total/fullShare):
		n.Level, n.Detail = Warning, n.Detail+": they run out. The range cannot be changed; delete instances, or plan a larger management network"
	}
	return []Finding{n}
}

// quotaLeft warns before the project's quotas run out.
func (w Wanted) quotaLeft(f Found) []Finding {
	var all []Finding
	for _, need := range w.Needs() {
		for _, q := range f.Quotas {
			if q.Service != need.Service || q.Resource != need.Resource || q.Limit <= 0 || q.Used < q.Limit-q.Limit/fullShare {
				continue
			}
			n := Finding{
				Part: PartQuota, Name: q.Service + " " + q.Resource, Level: Warning, Detail: fmt.Sprintf("%d of %d are in use", q.Used, q.Limit),
				Command: fmt.Sprintf("trove openstack bootstrap --instances N --only %s", PartQuota),
			}
			if q.Used >= q.Limit {
				n.Level = Missing
			}
			all = append(all, n)
		}
	}
	return all
}

// Ends are where a check looks from besides the administrator.
type Ends struct {
	LogIn func(ctx context.Context) (Services, error) // as the service user
	Dial  func(ctx context.Context, network, address string) (net.Conn, error)
	HTTP  *http.Client
}

// dialTimeout is how long a port may take to be there.
const dialTimeout = 5 * time.Second

// CheckEnds looks whether what is there works from the service's own end: the service user sees it, the controllers' ports are open, the endpoints answer.
func (b *Bootstrap) CheckEnds(ctx context.Context, w Wanted, f Found, e Ends) []Finding {
	all := seenByService(ctx, w, f, e)
	at, _ := (&planner{w: w, f: f}).controllers()
	for _, c := range at {
		for _, port := range w.Ports {
			all = append(all, listening(ctx, c, port, e))
		}
	}
	seen := map[string]bool{}
	for _, name := range []string{"public", "internal", "admin"} {
		if u := w.Endpoints[name]; u != "" && !seen[u] {
			seen[u] = true
			all = append(all, answering(ctx, u, e))
		}
	}
	return all
}

// seenByService logs in as the service user and looks for the network, as every create does.
func seenByService(ctx context.Context, w Wanted, f Found, e Ends) []Finding {
	n := Finding{Part: PartLogin, Name: w.User, Detail: "it can log in"}
	fail := func(err error) []Finding {
		n.Level, n.Detail, n.Command = Missing, trove.MessageOf(err), w.command(PartUser)
		return []Finding{n}
	}
	s, err := e.LogIn(ctx)
	if err != nil {
		return fail(err)
	}
	all := []Finding{n}
	c, err := open(s.Network)
	if err != nil {
		return fail(err)
	}
	var found struct {
		Networks []Network `json:"networks"`
		Groups   []Group   `json:"security_groups"`
	}
	network, group := networkRef(w, f), query(byNameOrID(w.Group), w.Group)
	if byNameOrID(w.Group) == "name" {
		group.Set("project_id", f.project())
	}
	err = errors.Join(c.get(ctx, &found, query(byNameOrID(network), network), "networks"), c.get(ctx, &found, group, "security-groups"))
	if err != nil {
		return fail(err)
	}
	found.Networks, _ = ofName(network, found.Networks, f.project(), "")
	for _, t := range []struct {
		part Part
		name string
		n    int
	}{{PartNetwork, w.Network, len(found.Networks)}, {PartGroup, w.Group, len(found.Groups)}} {
		seen := Finding{Part: PartLogin, Name: w.User, Detail: "it finds the " + string(t.part) + " " + t.name}
		switch {
		case t.n == 0:
			seen.Level, seen.Detail, seen.Command = Missing, "it does not find the "+string(t.part)+" "+t.name, w.command(t.part)
		case t.n > 1:
			seen.Level, seen.Detail = Missing, fmt.Sprintf("it finds %d %ss of the name %s: name it by its id in the configuration, or rename the others", t.n, t.part, t.name)
		}
		all = append(all, seen)
	}
	return all
}

// listening looks whether a port of a controller is open at the address that guests are told.
func listening(ctx context.Context, at netip.Addr, port int, e Ends) Finding {
	address := net.JoinHostPort(at.String(), strconv.Itoa(port))
	n := Finding{Part: PartBus, Name: address, Detail: "it is open"}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := e.Dial(ctx, "tcp", address)
	if err != nil {
		n.Level, n.Detail = Missing, fmt.Sprintf("nothing listens there, and guests look for the controller there: %v. Start the taskmanager, with bus.address %s in its configuration", cause(err), at)
		n.Command = "trove service install --components"
		return n
	}
	_ = conn.Close()
	return n
}

// cause is the last of an error's causes: for a connection what the kernel says.
func cause(err error) error {
	for {
		below := errors.Unwrap(err)
		if below == nil {
			return err
		}
		err = below
	}
}

// answering looks whether the API is where the catalogue says.
func answering(ctx context.Context, endpoint string, e Ends) Finding {
	n := Finding{Part: PartEndpoint, Name: endpoint, Detail: "the API answers"}
	root, _, _ := strings.Cut(endpoint, "/v1.0")
	u, err := url.Parse(root + "/")
	if err != nil {
		n.Level, n.Detail = Missing, "it is no URL"
		return n
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		n.Level, n.Detail = Missing, "it is no URL"
		return n
	}
	resp, err := e.HTTP.Do(r)
	if err != nil {
		n.Level, n.Detail, n.Command = Missing, fmt.Sprintf("the API does not answer there: %v. Start it, with api.listen or a proxy at this address", cause(err)), "trove service install --components"
		return n
	}
	_ = resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		n.Level, n.Detail = Missing, fmt.Sprintf("something answers %s there, and it is not the API", resp.Status)
	}
	return n
}
