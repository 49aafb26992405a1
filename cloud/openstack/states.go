package openstack

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/internal/clock"
)

const taskDeleting = "deleting"

// seen is the server in the port's words.
func seen(instance string, s *server) cloud.Machine {
	m := cloud.Machine{ID: s.ID, Instance: instance, FlavorID: s.Flavor.ID, ImageID: s.Image.ID, State: cloud.MachinePending}
	switch s.Status {
	case "ACTIVE":
		switch {
		case s.Task != "" && !strings.HasPrefix(s.Task, "image_"): // a snapshot is made while it runs
		case s.Power == powerShutdown:
			m.State, m.Reason = cloud.MachineStopped, "It has switched itself off."
		default:
			m.State, m.PreviousImageID = cloud.MachineRunning, s.Metadata[keyPrevious]
		}
	case "SHUTOFF":
		if s.Task == "" {
			m.State = cloud.MachineStopped
		}
	case "PAUSED", "SUSPENDED", "SHELVED", "SHELVED_OFFLOADED", "RESCUE":
		if s.Task == "" {
			m.State, m.Reason = cloud.MachineStopped, "Its server was set to "+s.Status+" in Nova."
		}
	case "ERROR":
		if s.Task == "" || s.Task == taskDeleting {
			m.State, m.Reason = cloud.MachineFailed, "Its server is in the state ERROR."
		}
	}
	return m
}

// How often another server is worth while. A cloud that is full stays full; but Nova finds no host either while Placement does not answer, while nova-compute has
// just come back, and where others have taken the room that Placement had just offered.
const (
	anewUnbound = 3
	anewNoHost  = 1
)

// whyFailed is why the server is in ERROR: what Nova says, and where that is too little what Neutron says; and how often another server is worth while. Nova tries other
// hosts, and does not say of what it failed on the last one; ports that are not bound are among that, for half a minute after Neutron was away: its agents are dead to
// it then until they report.
func (p *Provider) whyFailed(ctx context.Context, instance string, s *server) (why string, anew int, err error) {
	said, err := p.faultOf(ctx, s)
	if err != nil {
		return "", 0, err
	}
	ports, err := p.ports(ctx, instance)
	if err != nil {
		return "", 0, err
	}
	for _, port := range ports {
		if port.VIF == vifFailed {
			return "Neutron could not bind the port " + port.Name + " to the host of the server: no agent of its network works there (server " + s.ID + ").", anewUnbound, nil
		}
	}
	lower := strings.ToLower(said)
	switch {
	case said == "":
		said = "Nova gives no reason"
	case strings.Contains(lower, "exhausted all hosts"), strings.Contains(lower, "exceeded max scheduling attempts"):
		said, anew = "Nova could build it on no host"+also(placedBy(s))+" ("+said+")"+p.silentAgents(ctx), anewUnbound
	case strings.Contains(lower, "no valid host"):
		said, anew = "Nova found no host that has room for it"+also(placedBy(s))+" ("+said+")", anewNoHost
	case strings.Contains(lower, "virtual interface creation failed"), strings.Contains(lower, "failed to allocate the network"):
		said = "Its ports were not connected in time: see the agents of Neutron (" + said + ")"
	default:
		said = "Nova: " + said
	}
	return said + " (server " + s.ID + ").", anew, nil
}

// also is a further part of a sentence, if there is one.
func also(said string) string {
	if said == "" {
		return ""
	}
	return ", and " + said
}

// binders are the agents by which Neutron binds ports to hosts.
var binders = map[string]bool{"Linux bridge agent": true, "Open vSwitch agent": true, "OVN Controller agent": true, "NIC Switch agent": true}

// silentAgents names one that does not report, as a part of a sentence. It is what is known besides, so that its own failure is none.
func (p *Provider) silentAgents(ctx context.Context) string {
	all, err := list[struct {
		Type  string `json:"agent_type"`
		Host  string `json:"host"`
		Alive bool   `json:"alive"`
	}](ctx, request{of: p.cfg.Session.Network, path: []string{"agents"}, query: url.Values{"alive": {"False"}}}, "agents")
	if err != nil {
		p.cfg.Log.DebugContext(ctx, "agents of Neutron were not read", "err", err)
		return ""
	}
	for _, a := range all {
		if binders[a.Type] && !a.Alive {
			return ". Neutron does not hear of its " + a.Type + " on the host " + a.Host + ", and binds no port to it"
		}
	}
	return ""
}

// faultOf is what Nova says of a server that failed. It says that it failed a moment before it says why, so it is asked again for some seconds.
func (p *Provider) faultOf(ctx context.Context, s *server) (string, error) {
	for pause := firstLook; s.Fault.Message == "" && pause <= slowestLook; pause *= 2 {
		if err := clock.Sleep(ctx, pause); err != nil {
			return "", err
		}
		var body struct{ Server server }
		r := p.nova(s.ID)
		r.into = &body
		if err := r.get(ctx); err != nil {
			return "", err
		}
		s.Fault = body.Server.Fault
	}
	return strings.TrimRight(strings.Join(strings.Fields(s.Fault.Message), " "), ". "), nil
}

// action is what was done to a server.
type action struct {
	Action    string  `json:"action"`
	Message   *string `json:"message"` // "Error" for one that failed
	RequestID string  `json:"request_id"`
}

// starts are the actions after which a server has booted anew.
var starts = map[string]bool{
	"create": true, "start": true, "reboot": true, "rebuild": true, "resize": true, "revertResize": true, "migrate": true, "evacuate": true,
	"resume": true, "unshelve": true, "rescue": true, "unrescue": true,
}

// manyActions is how many of the last actions are looked at.
const manyActions = "20"

// actions returns what was done to the server, the last first.
func (p *Provider) actions(ctx context.Context, server string) ([]action, error) {
	r := p.nova(server, "os-instance-actions")
	r.microversion, r.query = microActions, url.Values{"limit": {manyActions}}
	var body struct {
		All []action `json:"instanceActions"`
	}
	r.into = &body
	err := r.get(ctx)
	return body.All, err
}

// bootID names the last action that started the server.
func (p *Provider) bootID(ctx context.Context, server string) (string, error) {
	all, err := p.actions(ctx, server)
	for _, a := range all {
		if starts[a.Action] {
			return a.RequestID, nil
		}
	}
	return "", gone(err)
}

func unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }

// noSize refuses a flavor that says nothing.
func checkFlavor(f trove.Flavor) error {
	if f.ID == "" || f.RAM <= 0 || f.VCPUs <= 0 {
		return bad("Flavor %q has no memory or no cores.", f.ID)
	}
	return nil
}
