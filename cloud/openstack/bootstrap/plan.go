package bootstrap

import (
	"fmt"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
)

// Plan compares what is wanted with what is there. It does no input or output. An error is a fault of what is wanted, whatever is there.
func Plan(w Wanted, f Found) ([]Step, error) {
	if err := w.check(); err != nil {
		return nil, err
	}
	p := &planner{w: w, f: f}
	for _, part := range []func(){
		p.project, p.user, p.role, p.network, p.subnet, p.groups, p.port, p.reach, p.flavors, p.quotas, p.images, p.endpoints, p.config,
	} {
		part()
	}
	return slices.DeleteFunc(p.steps, func(s Step) bool { return !w.Has(s.Part) }), nil
}

// Changes returns how many things a plan would make or change.
func Changes(steps []Step) int {
	n := 0
	for _, s := range steps {
		if s.Action != nil {
			n++
		}
	}
	return n
}

// Refusals returns an error that names what a plan cannot do, or nil. With one, nothing of the plan should be carried out.
func Refusals(steps []Step) error {
	var all []string
	for _, s := range steps {
		if s.State == Refused {
			all = append(all, fmt.Sprintf("%s %s: %s", s.Part, s.Name, s.Detail))
		}
	}
	if len(all) == 0 {
		return nil
	}
	return trove.Errorf(trove.KindConflict, "Nothing was changed. %s", strings.Join(all, "\n"))
}

func (w Wanted) check() error {
	for _, p := range w.Only {
		if !slices.Contains(Parts, p) {
			return trove.Errorf(trove.KindBadRequest, "There is no part %q; there are %s.", p, partNames())
		}
	}
	if err := w.Size.check(); err != nil {
		return err
	}
	if w.CIDR.IsValid() {
		if _, err := LayOut(w.CIDR, w.Size); err != nil {
			return err
		}
	}
	if w.Segment != 0 && w.NetworkType == "" || w.PhysicalNetwork != "" && w.NetworkType == "" {
		return trove.Errorf(trove.KindBadRequest, "A physical network and a segment need the type of the network, such as vlan.")
	}
	seen := map[string]bool{}
	for _, f := range w.Flavors {
		if f.Name == "" || f.RAM < 1 || f.VCPUs < 1 || f.Disk < 0 || seen[f.Name] {
			return trove.Errorf(trove.KindBadRequest, "Flavor %q: it needs a name of its own, memory and cores.", f.Name)
		}
		seen[f.Name] = true
	}
	for _, c := range w.Controllers {
		if !c.Is4() {
			return trove.Errorf(trove.KindBadRequest, "%s is not an address of IPv4: the management network is one of IPv4.", c)
		}
	}
	return nil
}

func partNames() string {
	names := make([]string, 0, len(Parts))
	for _, p := range Parts {
		names = append(names, string(p))
	}
	return strings.Join(names, ", ")
}

// planner collects the steps.
type planner struct {
	w     Wanted
	f     Found
	steps []Step
}

func (p *planner) add(part Part, name string, state State, action Action, format string, args ...any) {
	if state != Make && state != Change {
		action = nil
	}
	p.steps = append(p.steps, Step{Part: part, Name: name, State: state, Detail: fmt.Sprintf(format, args...), Action: action})
}

// several refuses where more than one thing has a name that must be of one.
func (p *planner) several(part Part, name string, n int, option string) bool {
	if n > 1 {
		p.add(part, name, Refused, nil, "%d have this name: name another with %s, or rename those that are not Trove's", n, option)
	}
	return n > 1
}

func (p *planner) project() {
	switch {
	case p.f.ProjectDomainID == "":
		p.add(PartProject, p.w.Project, Refused, nil, "there is no domain %s", p.w.ProjectDomain)
	case len(p.f.Projects) > 0:
		p.add(PartProject, p.w.Project, There, nil, "servers, volumes and management ports are made in it; tenants do not see them")
	default:
		p.add(PartProject, p.w.Project, Make, MakeProject{Name: p.w.Project, DomainID: p.f.ProjectDomainID}, "servers, volumes and management ports are made in it; tenants do not see them")
	}
}

func (p *planner) user() {
	w := p.w
	add := func(state State, action Action, format string, args ...any) {
		p.add(PartUser, w.User, state, action, format, args...)
	}
	there := len(p.f.Users) > 0
	switch {
	case p.f.UserDomainID == "":
		add(Refused, nil, "there is no domain %s", w.UserDomain)
	case p.f.Password == PasswordOpen:
		add(Refused, nil, "others can read %s: chmod 600", w.PasswordFile)
	case !there && p.f.Password == NoPassword:
		add(Make, MakeUser{Name: w.User, DomainID: p.f.UserDomainID, File: w.PasswordFile}, "its password is made and written to %s", w.PasswordFile)
	case !there:
		add(Make, MakeUser{Name: w.User, DomainID: p.f.UserDomainID, File: w.PasswordFile}, "with the password of %s", w.PasswordFile)
	case p.f.Password == PasswordGood:
		add(There, nil, "it can log in with the password of %s", w.PasswordFile)
	case w.ResetPassword:
		add(Change, SetPassword{UserID: p.f.Users[0].ID, File: w.PasswordFile}, "it gets the password of %s, which is made if it is not there; the old one ends", w.PasswordFile)
	case p.f.Password == NoPassword:
		add(Refused, nil, "it is there and its password is not in %s: write it there, or give --reset-password, which ends all that logs in with the present one", w.PasswordFile)
	default:
		add(Refused, nil, "it cannot log in with the password of %s: correct the file, or give --reset-password, which ends all that logs in with the present one", w.PasswordFile)
	}
}

// whyAdmin says why the service user has so many rights.
const whyAdmin = "Neutron takes a port on another project's network from an administrator alone"

func (p *planner) role() {
	name := p.w.Role + " of " + p.w.User + " in " + p.w.Project
	switch {
	case p.f.RoleID == "":
		p.add(PartRole, name, Refused, nil, "Keystone has no role %s", p.w.Role)
	case p.f.Granted:
		p.add(PartRole, name, There, nil, whyAdmin)
	default:
		p.add(PartRole, name, Make, GrantRole{RoleID: p.f.RoleID}, whyAdmin)
	}
}

func (p *planner) endpoints() {
	const kind = "database"
	if len(p.w.Endpoints) == 0 {
		p.add(PartEndpoint, kind, Yours, nil, "say with --public-url where clients reach the API, as https://db.example:8779")
		return
	}
	if len(p.f.Services) > 1 {
		p.add(PartEndpoint, kind, Refused, nil, "the catalogue has %d services of this type: remove those that are not used", len(p.f.Services))
		return
	}
	if len(p.f.Services) == 0 {
		p.add(PartEndpoint, kind, Make, MakeService{Name: p.w.ServiceName, Type: kind}, "service %s of the catalogue", p.w.ServiceName)
	} else {
		p.add(PartEndpoint, kind, There, nil, "service %s of the catalogue", p.f.Services[0].Name)
	}
	for _, name := range []string{"public", "internal", "admin"} {
		if url := p.w.Endpoints[name]; url != "" {
			p.endpoint(Endpoint{Interface: name, Region: p.w.Region, URL: url, Enabled: true})
		}
	}
}

// InCatalogue are the endpoints that the catalogue has in the region, by interface.
func InCatalogue(w Wanted, f Found) map[string]string {
	all := map[string]string{}
	for _, e := range f.Endpoints {
		if e.Region == w.Region && e.Enabled {
			all[e.Interface] = e.URL
		}
	}
	return all
}

func (p *planner) endpoint(want Endpoint) {
	name := want.Interface + " in " + want.Region
	n := slices.IndexFunc(p.f.Endpoints, func(e Endpoint) bool { return e.Interface == want.Interface && e.Region == want.Region })
	if n < 0 {
		p.add(PartEndpoint, name, Make, MakeEndpoint{want}, "%s", want.URL)
		return
	}
	have := p.f.Endpoints[n]
	want.ID = have.ID
	switch {
	case have.URL == want.URL && have.Enabled:
		p.add(PartEndpoint, name, There, nil, "%s", have.URL)
	case have.URL == want.URL:
		p.add(PartEndpoint, name, Change, ChangeEndpoint{want}, "%s is enabled", have.URL)
	case p.w.ReplaceEndpoints:
		p.add(PartEndpoint, name, Change, ChangeEndpoint{want}, "%s in place of %s", want.URL, have.URL)
	default:
		p.add(PartEndpoint, name, Refused, nil, "it is %s and not %s: give --replace-endpoints when clients shall go there from now on, or the right URL", have.URL, want.URL)
	}
}
