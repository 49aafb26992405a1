package openstack

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
)

var _ cloud.Grouper = (*Provider)(nil)

// microGroup is the first in which a server group has one policy.
const microGroup = "2.64"

// Metadata of a server that was made in a server group: Nova does not say it of a server, and cannot be asked for a group by its name.
const (
	keyGroup    = "trove_server_group" // Nova's id of the group
	keyLocality = "trove_locality"     // its policy
)

// serverGroup is a server group as Nova shows it. Servers that are deleted are no members any more.
type serverGroup struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	Policy  string   `json:"policy"`
	Members []string `json:"members"`
}

func (p *Provider) novaGroups(path ...string) request {
	return request{of: p.cfg.Session.Compute, path: append([]string{"os-server-groups"}, path...), microversion: microGroup}
}

// serverGroup returns a server group, NotFound without one.
func (p *Provider) serverGroup(ctx context.Context, id string) (serverGroup, error) {
	r := p.novaGroups(id)
	var body struct {
		Group serverGroup `json:"server_group"`
	}
	r.into = &body
	err := r.get(ctx)
	return body.Group, err
}

// serverGroups returns all server groups of the project: Nova filters them by nothing. They are asked for when the first machine of a group is made, or a group without one
// is looked for. Nova links no next page.
func (p *Provider) serverGroups(ctx context.Context) ([]serverGroup, error) {
	var all []serverGroup
	for {
		r := p.novaGroups()
		if len(all) > 0 {
			r.query = url.Values{"offset": {strconv.Itoa(len(all))}}
		}
		var page struct {
			Groups []serverGroup `json:"server_groups"`
		}
		r.into = &page
		if err := r.get(ctx); err != nil {
			return nil, err
		}
		all = append(all, page.Groups...)
		if len(page.Groups) < fewGroups {
			return all, nil
		}
	}
}

// fewGroups are not so many that Nova could have cut the list there.
const fewGroups = 50

// groupsNamed returns the server groups of a group, the one that counts first.
func (p *Provider) groupsNamed(ctx context.Context, id string) ([]serverGroup, error) {
	all, err := p.serverGroups(ctx)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(g serverGroup) bool { return g.Name != nameOf(id) })
	slices.SortFunc(all, func(a, b serverGroup) int {
		return cmp.Or(boolean(len(a.Members) == 0)-boolean(len(b.Members) == 0), strings.Compare(a.ID, b.ID))
	})
	return all, nil
}

// joinGroup returns Nova's id of the server group for a new server, "" for none: the one that a server of the set is in, or one of the name, or a new one.
func (p *Provider) joinGroup(ctx context.Context, g cloud.Group) (string, error) {
	if g.Policy == "" {
		return "", nil
	}
	defer p.lock("group " + g.ID)() // of two first machines at once one makes it
	for _, peer := range g.Peers {
		if id, err := p.groupOf(ctx, peer); err != nil || id != "" {
			return id, err
		}
	}
	all, err := p.groupsNamed(ctx, g.ID)
	if err != nil {
		return "", err
	}
	if i := slices.IndexFunc(all, func(has serverGroup) bool { return has.Policy == string(g.Policy) }); i >= 0 {
		return all[i].ID, nil
	}
	r := p.novaGroups()
	var body struct {
		Group serverGroup `json:"server_group"`
	}
	r.body, r.into = object{"server_group": object{"name": nameOf(g.ID), "policy": string(g.Policy)}}, &body
	err = r.post(ctx)
	return body.Group.ID, err
}

// groupOf returns the server group that the server of an instance is in, "" if there is none.
func (p *Provider) groupOf(ctx context.Context, instance string) (string, error) {
	servers, err := p.servers(ctx, instance)
	if err != nil {
		return "", err
	}
	for i := range servers {
		id := servers[i].Metadata[keyGroup]
		if id == "" {
			continue
		}
		_, err := p.serverGroup(ctx, id)
		if err == nil {
			return id, nil
		}
		if !trove.IsNotFound(err) {
			return "", err
		}
	}
	return "", nil
}

// groupGone reports whether Nova refuses a server because its group is not there: somebody has removed it since it was looked for.
func groupGone(err error, group string) bool {
	a, ok := osclient.AnswerOf(err)
	return ok && group != "" && a.Status == http.StatusBadRequest && strings.Contains(a.Message, group)
}

// keepGroup has new metadata of a server name its group, as the old did.
func keepGroup(metadata map[string]string, sv *server) {
	for _, key := range []string{keyGroup, keyLocality} {
		if v := sv.Metadata[key]; v != "" {
			metadata[key] = v
		}
	}
}

// dropServerGroup removes a server group that has no members but these.
func (p *Provider) dropServerGroup(ctx context.Context, id string, but []server) error {
	g, err := p.serverGroup(ctx, id)
	if err != nil {
		return gone(err)
	}
	for _, member := range g.Members {
		if !slices.ContainsFunc(but, func(s server) bool { return s.ID == member }) {
			return nil
		}
	}
	return p.novaGroups(id).remove(ctx)
}

// RemoveGroup is cloud.Grouper.RemoveGroup.
func (p *Provider) RemoveGroup(ctx context.Context, id string) error {
	if err := checkID(id); err != nil {
		return err
	}
	defer p.lock("group " + id)()
	all, err := p.groupsNamed(ctx, id)
	if err != nil {
		return err
	}
	for _, g := range all {
		if len(g.Members) > 0 {
			continue
		}
		if err := p.novaGroups(g.ID).remove(ctx); err != nil {
			return err
		}
	}
	return nil
}

// EmptyGroups is cloud.Grouper.EmptyGroups. A server group has neither tags nor metadata, so that those of other deployments are among them.
func (p *Provider) EmptyGroups(ctx context.Context) ([]string, error) {
	all, err := p.serverGroups(ctx)
	if err != nil {
		return nil, err
	}
	var empty []string
	for _, g := range all {
		id, ours := strings.CutPrefix(g.Name, nameOf(""))
		if ours && trove.ValidID(id) && len(g.Members) == 0 && !slices.Contains(empty, id) {
			empty = append(empty, id)
		}
	}
	slices.Sort(empty)
	return empty, nil
}

// placedBy says what the policy of a server's group has to do with it that no host was found, "" for one in no group.
func placedBy(s *server) string {
	switch cloud.Policy(s.Metadata[keyLocality]) {
	case cloud.Affinity:
		return "the instance has the locality affinity, so that only the host of the others of its set will do"
	case cloud.AntiAffinity:
		return "the instance has the locality anti-affinity, so that no host of the others of its set will do"
	}
	return ""
}
