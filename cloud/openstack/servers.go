package openstack

import (
	"cmp"
	"context"
	"net/url"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
)

// Microversions of Nova. Reads use the last one that names the flavor by its id.
const (
	microRead    = "2.46"
	microCreate  = "2.52" // tags of a new server
	microRebuild = "2.57" // new user data
	microActions = "2.58" // the last actions alone
	microHost    = "2.90" // a host name of our own
)

// server is a server as Nova shows it.
type server struct {
	ID      string                   `json:"id"`
	Name    string                   `json:"name"`
	Status  string                   `json:"status"`
	Task    string                   `json:"OS-EXT-STS:task_state"`
	Power   int                      `json:"OS-EXT-STS:power_state"`
	Host    string                   `json:"OS-EXT-SRV-ATTR:host"` // for administrators; null while there is none
	Created stamp                    `json:"created"`
	Flavor  struct{ ID string }      `json:"flavor"`
	Image   anyImage                 `json:"image"`
	Fault   struct{ Message string } `json:"fault"`

	UserData string            `json:"OS-EXT-SRV-ATTR:user_data"` // likewise, in base64
	Metadata map[string]string `json:"metadata"`
	Volumes  []struct {
		ID string `json:"id"`
	} `json:"os-extended-volumes:volumes_attached"`
}

// anyImage is the image of a server, which is an empty text for one that has none.
type anyImage struct{ ID string }

// UnmarshalJSON reads both forms.
func (i *anyImage) UnmarshalJSON(data []byte) error {
	if i.ID = ""; len(data) == 0 || data[0] != '{' {
		return nil
	}
	var has struct {
		ID string `json:"id"`
	}
	err := unmarshal(data, &has)
	i.ID = has.ID
	return err
}

// Power states of Nova that matter.
const powerShutdown = 4

func (s *server) attached(volume string) bool {
	return slices.ContainsFunc(s.Volumes, func(v struct {
		ID string `json:"id"`
	},
	) bool {
		return v.ID == volume
	})
}

func (p *Provider) nova(path ...string) request {
	return request{of: p.cfg.Session.Compute, path: append([]string{"servers"}, path...), microversion: microRead}
}

// servers returns those of the instance, the one that counts first. A server that Nova has deleted is not there.
func (p *Provider) servers(ctx context.Context, instance string) ([]server, error) {
	r := p.nova("detail")
	r.query = url.Values{"name": {"^" + nameOf(instance) + "$"}}
	found, err := list[server](ctx, r, "servers")
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(s server) bool {
		return s.Name != nameOf(instance) || s.Metadata[keyDeployment] != p.cfg.Deployment || strings.HasSuffix(s.Status, "DELETED")
	})
	slices.SortFunc(found, firstServer)
	return found, nil
}

// softDeleted reports whether a server is one of ours that Nova has deleted and keeps with its volumes and ports, as long as its reclaim_instance_interval says.
func (p *Provider) softDeleted(s *server) bool {
	return s.Status == "SOFT_DELETED" && s.Metadata[keyDeployment] == p.cfg.Deployment
}

// forceDelete ends a server that Nova keeps.
func (p *Provider) forceDelete(ctx context.Context, s *server) error {
	if s.Task == taskDeleting {
		return nil
	}
	p.cfg.Log.InfoContext(ctx, "deleted server that Nova keeps was ended", "server", s.ID)
	return gone(p.act(ctx, s.ID, "forceDelete"))
}

// reclaim takes the volume of a machine that is to be made from servers that Nova has deleted and keeps. Without attachments it asks nothing.
func (p *Provider) reclaim(ctx context.Context, attached []attachment) error {
	for _, a := range attached {
		var body struct{ Server server }
		r := p.nova(a.ServerID)
		r.into = &body
		err := r.get(ctx)
		if trove.IsNotFound(err) || err == nil && !p.softDeleted(&body.Server) {
			continue
		}
		if err == nil {
			err = p.forceDelete(ctx, &body.Server)
		}
		if err == nil {
			err = trove.Errorf(trove.KindUnavailable, "The former server of the instance still has its volume.")
		}
		return err
	}
	return nil
}

// firstServer orders servers of an instance: one that failed counts last, then the older one counts.
func firstServer(a, b server) int {
	return cmp.Or(
		boolean(a.Status == "ERROR" || a.Task == taskDeleting)-boolean(b.Status == "ERROR" || b.Task == taskDeleting),
		strings.Compare(a.Created.text(), b.Created.text()), strings.Compare(a.ID, b.ID),
	)
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}

// server returns the server that counts, NotFound without one.
func (p *Provider) server(ctx context.Context, instance string) (server, error) {
	all, err := p.servers(ctx, instance)
	if err != nil {
		return server{}, err
	}
	if len(all) == 0 {
		return server{}, trove.Errorf(trove.KindNotFound, "Instance %s has no server.", instance)
	}
	return all[0], nil
}

// oneServer is server, and removes those that do not count.
func (p *Provider) oneServer(ctx context.Context, instance string) (server, error) {
	all, err := p.servers(ctx, instance)
	if err != nil {
		return server{}, err
	}
	if len(all) == 0 {
		return server{}, trove.Errorf(trove.KindNotFound, "Instance %s has no server.", instance)
	}
	for _, s := range all[1:] {
		p.cfg.Log.WarnContext(ctx, "surplus server is removed", "instance", instance, "server", s.ID, "kept", all[0].ID)
		if err := p.nova(s.ID).remove(ctx); err != nil {
			return server{}, passing(err)
		}
	}
	return all[0], nil
}

// FindMachine is cloud.Machines.FindMachine.
func (p *Provider) FindMachine(ctx context.Context, instance string) (cloud.Machine, error) {
	if err := checkID(instance); err != nil {
		return cloud.Machine{}, err
	}
	s, err := p.server(ctx, instance)
	if err != nil {
		return cloud.Machine{}, err
	}
	return p.machine(ctx, instance, &s)
}

// machine is the server in the port's words, with what only further requests show.
func (p *Provider) machine(ctx context.Context, instance string, s *server) (cloud.Machine, error) {
	m := seen(instance, s)
	var err error
	switch m.State {
	case cloud.MachineRunning:
		m.BootID, err = p.bootID(ctx, s.ID)
	case cloud.MachineFailed:
		m.Reason, m.Anew, err = p.whyFailed(ctx, instance, s)
	}
	return m, err
}
