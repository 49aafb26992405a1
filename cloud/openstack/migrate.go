package openstack

import (
	"context"
	"net/url"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
)

var (
	_ cloud.Migrator        = (*Provider)(nil)
	_ cloud.PlacementOfMany = (*Provider)(nil)
)

// microMigrate lets the host of a cold migration be named.
const microMigrate = "2.56"

// keyMigrate is the host that a server is to leave.
const keyMigrate = "trove_migrate"

// MachineHost is cloud.Placement.MachineHost.
func (p *Provider) MachineHost(ctx context.Context, instance string) (string, error) {
	if err := checkID(instance); err != nil {
		return "", err
	}
	sv, err := p.server(ctx, instance)
	return sv.Host, gone(err)
}

// atOnce is how many instances are asked for in one request: their ids are in its address.
const atOnce = 40

// MachineHosts is cloud.PlacementOfMany.MachineHosts.
func (p *Provider) MachineHosts(ctx context.Context, instances []string) (map[string]string, error) {
	all := map[string]string{}
	for part := range slices.Chunk(instances, atOnce) {
		var tags []string // names would be one regular expression, in which Nova takes a | for itself
		for _, id := range part {
			if err := checkID(id); err != nil {
				return nil, err
			}
			tags = append(tags, keyInstance+"="+id)
		}
		r := p.nova("detail")
		r.query = url.Values{"tags-any": {strings.Join(tags, ",")}}
		found, err := list[server](ctx, r, "servers")
		if err != nil {
			return nil, err
		}
		slices.SortFunc(found, firstServer)
		for i := range found {
			s := &found[i]
			id := s.Metadata[keyInstance]
			if s.Metadata[keyDeployment] == p.cfg.Deployment && s.Name == nameOf(id) && s.Host != "" && all[id] == "" {
				all[id] = s.Host
			}
		}
	}
	return all, nil
}

// computeService is nova-compute on a host, as Nova shows it.
type computeService struct {
	Host   string `json:"host"`
	Status string `json:"status"` // enabled or disabled, by an administrator
	State  string `json:"state"`  // up or down
}

func (s computeService) works() bool { return s.Status == "enabled" && s.State == "up" }

// Migratable is cloud.Placement.Migratable. It asks for the hosts of Nova, or for the one.
func (p *Provider) Migratable(ctx context.Context, host string) error {
	r := request{of: p.cfg.Session.Compute, path: []string{"os-services"}, microversion: microRead, query: url.Values{"binary": {"nova-compute"}}}
	if host != "" {
		r.query.Set("host", host)
	}
	all, err := list[computeService](ctx, r, "services")
	if err != nil {
		return err
	}
	if host == "" {
		if working := slices.DeleteFunc(all, func(s computeService) bool { return !s.works() }); len(working) < 2 { //nolint:mnd // its own and another
			return trove.Permanent(trove.Errorf(trove.KindNotImplemented,
				"Nova has one host that takes servers at the moment: there is no other that the machine could be moved to."))
		}
		return nil
	}
	i := slices.IndexFunc(all, func(s computeService) bool { return s.Host == host })
	switch {
	case i < 0:
		return bad("Nova has no host %s.", host)
	case !all[i].works():
		return bad("The host %s takes no servers: Nova says that it is %s and %s.", host, all[i].Status, all[i].State)
	}
	return nil
}

// MigrateMachine is cloud.Migrator.MigrateMachine: Nova's cold migration, which is confirmed when the server is on its new host. A kill leaves the server in VERIFY_RESIZE, from
// where whoever calls this or EnsureMachine carries on.
func (p *Provider) MigrateMachine(ctx context.Context, instance, from, to string) (cloud.Machine, error) {
	if err := checkID(instance); err != nil {
		return cloud.Machine{}, err
	}
	defer p.lock(instance)()
	sv, err := p.oneServer(ctx, instance)
	if err != nil {
		return cloud.Machine{}, err
	}
	m := seen(instance, &sv)
	switch {
	case moving(&sv):
		return m, underWay(p.act(ctx, sv.ID, "confirmResize"))
	case m.State == cloud.MachinePending || m.State == cloud.MachineFailed:
		return p.machine(ctx, instance, &sv)
	case sv.Host != from || from == to:
		return p.arrived(ctx, instance, &sv)
	}
	if err := p.Migratable(ctx, to); err != nil {
		return cloud.Machine{}, err
	}
	if err := p.migrationFailed(ctx, &sv, from); err != nil {
		return cloud.Machine{}, err
	}
	if err := p.setMetadata(ctx, sv.ID, object{keyMigrate: from}); err != nil {
		return cloud.Machine{}, err
	}
	r := p.nova(sv.ID, "action")
	r.microversion, r.body = microMigrate, object{"migrate": nil}
	if to != "" {
		r.body = object{"migrate": object{"host": to}}
	}
	if err := r.post(ctx); err != nil {
		return cloud.Machine{}, asBad(passing(err))
	}
	m.State, m.Reason, m.BootID = cloud.MachinePending, "", ""
	return m, nil
}

// moving reports whether a server has been moved and waits for its confirmation. In this state is one whose size was changed, too; that one has no mark.
func moving(sv *server) bool {
	return sv.Status == "VERIFY_RESIZE" && sv.Task == "" && sv.Metadata[keyMigrate] != ""
}

// arrived takes the mark from a server that is where it shall be, and starts one that was moved while it did not run.
func (p *Provider) arrived(ctx context.Context, instance string, sv *server) (cloud.Machine, error) {
	m, err := p.machine(ctx, instance, sv)
	if err != nil || sv.Metadata[keyMigrate] == "" {
		return m, err
	}
	if m.State == cloud.MachineStopped {
		m.State, m.Reason = cloud.MachinePending, ""
		return m, p.wake(ctx, sv)
	}
	return m, p.dropMetadata(ctx, sv.ID, keyMigrate)
}

// migrationFailed returns an error if the migration that was asked for came to nothing: as with a resize Nova says so in its list of actions alone. It is said once.
func (p *Provider) migrationFailed(ctx context.Context, sv *server, from string) error {
	if sv.Metadata[keyMigrate] != from {
		return nil
	}
	all, err := p.actions(ctx, sv.ID)
	if err != nil || len(all) == 0 {
		return err
	}
	why := "no other host has room for it, or the move failed"
	switch {
	case all[0].Action == "migrate" && all[0].Message != nil:
	case all[0].Action == "confirmResize": // some hypervisors can do that
		why = "its scheduler has moved it to the same host"
	default:
		return nil
	}
	if err := p.dropMetadata(ctx, sv.ID, keyMigrate); err != nil {
		return err
	}
	if by := placedBy(sv); by != "" {
		why += "; " + by
	}
	return trove.Permanent(trove.Errorf(trove.KindInternal, "Nova could not move the server from %s: %s (request %s). It is as it was before.", from, why, all[0].RequestID))
}
