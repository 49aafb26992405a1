package api

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
)

// listModuleInstances lists the caller's instances that have a module; a module of all projects tells nobody of the others'.
func (s *server) listModuleInstances(ctx context.Context, c *call) (any, error) {
	m, err := s.findModule(ctx, c, c.params.get("module"), "module:instances")
	if err != nil {
		return nil, err
	}
	links, instances, err := s.instancesWith(ctx, c, &m)
	if err != nil {
		return nil, err
	}
	if strings.EqualFold(c.req.URL.Query().Get("count_only"), "true") {
		return &wire.ModuleCounts{Instances: countModule(&m, links)}, nil
	}
	p, err := s.readPage(c, false)
	if err != nil {
		return nil, err
	}
	out := &instancePage{call: c, now: s.cfg.Clock.Now()}
	found, next := cut(instances, p, func(i trove.Instance) string { return i.ID })
	if next != "" {
		out.next = c.nextLink(next)
	}
	out.found = found
	return out, s.addVersions(ctx, out, found)
}

// instancesWith returns the instances that have the module and that the caller may see, by id, and the links to them.
func (s *server) instancesWith(ctx context.Context, c *call, m *trove.Module) (links []trove.InstanceModule, instances []trove.Instance, err error) {
	all, err := s.cfg.Store.InstanceModules(ctx, "", m.ID)
	if err != nil {
		return nil, nil, fmt.Errorf("list the instances of the module: %w", err)
	}
	for _, l := range all {
		i, err := s.cfg.Store.Instance(ctx, l.InstanceID)
		if trove.IsNotFound(err) {
			continue // it was deleted meanwhile
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read an instance of the module: %w", err)
		}
		if i.ProjectID != c.project && !c.admin || i.ClusterID != "" && inAnyCluster(c) != nil {
			continue
		}
		links, instances = append(links, l), append(instances, i)
	}
	return links, instances, nil
}

// countModule counts the instances by the contents that they have.
func countModule(m *trove.Module, links []trove.InstanceModule) []wire.ModuleCount {
	counts := []wire.ModuleCount{}
	slices.SortStableFunc(links, func(a, b trove.InstanceModule) int { return strings.Compare(a.MD5, b.MD5) })
	for _, l := range links {
		updated := wire.Time(l.Updated)
		if len(counts) == 0 || counts[len(counts)-1].ModuleMD5 != l.MD5 {
			counts = append(counts, wire.ModuleCount{
				ModuleName: m.Name, ModuleID: m.ID, ModuleMD5: l.MD5, Current: l.MD5 == m.MD5, MinUpdated: updated, MaxUpdated: updated,
			})
		}
		n := &counts[len(counts)-1]
		n.InstanceCount++
		if l.Updated.Before(time.Time(n.MinUpdated)) {
			n.MinUpdated = updated
		}
		if l.Updated.After(time.Time(n.MaxUpdated)) {
			n.MaxUpdated = updated
		}
	}
	return counts
}

func (s *server) reapplyModule(ctx context.Context, c *call) (any, error) {
	m, err := s.findModule(ctx, c, c.params.get("module"), "module:reapply")
	if err != nil {
		return nil, err
	}
	links, err := s.cfg.Store.InstanceModules(ctx, "", m.ID)
	if err != nil {
		return nil, fmt.Errorf("list the instances of the module: %w", err)
	}
	if len(links) > 0 {
		return nil, notYet(noModules)
	}
	return nil, nil
}

func (s *server) listInstanceModules(ctx context.Context, c *call) (any, error) {
	links, err := s.cfg.Store.InstanceModules(ctx, c.instance.ID, "")
	if err != nil {
		return nil, fmt.Errorf("list the modules of the instance: %w", err)
	}
	out := wire.ModuleList{Modules: []wire.Module{}}
	for _, l := range links {
		m, err := s.cfg.Store.Module(ctx, l.ModuleID)
		if trove.IsNotFound(err) {
			continue // it was deleted meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("read a module of the instance: %w", err)
		}
		if !c.admin && !m.Visible {
			continue
		}
		v, err := s.viewModule(ctx, &m)
		if err != nil {
			return nil, err
		}
		v.MD5, v.Created, v.Updated = l.MD5, wire.Time(l.Created), wire.Time(l.Updated)
		if c.req.URL.Query().Get("include_contents") != "" && (c.admin || m.ProjectID == c.project && !m.IsAdmin) {
			contents, err := s.cfg.Sealer.Open(ctx, trove.ModulePurpose(m.ID), m.Contents)
			if err != nil {
				return nil, fmt.Errorf("open the contents of module %s: %w", m.ID, err)
			}
			text := contents.Reveal()
			v.Contents = &text
		}
		out.Modules = append(out.Modules, v)
	}
	return &out, nil
}

// applicable finds the modules that a request names and checks that they are for the version.
func (s *server) applicable(ctx context.Context, c *call, want []object, version *trove.DatastoreVersion) ([]trove.Module, error) {
	var out []trove.Module
	for _, w := range want {
		m, err := s.findModule(ctx, c, w.str("id"), "")
		if err != nil {
			return nil, err
		}
		for _, part := range []struct{ of, want, word string }{
			{m.DatastoreID, version.DatastoreID, "datastore"},
			{m.DatastoreVersionID, version.ID, "datastore version"},
		} {
			if part.of != "" && part.of != part.want {
				return nil, bad("The module is invalid: Module '%s' cannot be applied  (Wrong %s '%s' - expected '%s')", m.Name, part.word, part.of, part.want)
			}
		}
		out = append(out, m)
	}
	return out, nil
}

func (s *server) applyModules(ctx context.Context, c *call) (any, error) {
	version, _, err := s.datastoreVersion(ctx, c.instance.DatastoreVersionID)
	if err != nil {
		return nil, err
	}
	modules, err := s.applicable(ctx, c, c.body.list("modules"), &version)
	if err != nil {
		return nil, err
	}
	if len(modules) > 0 {
		return nil, notYet(noModules)
	}
	return &wire.ModuleList{Modules: []wire.Module{}}, nil
}

func (s *server) removeModule(ctx context.Context, c *call) (any, error) {
	m, err := s.findModule(ctx, c, c.params.get("module"), "")
	if err != nil {
		return nil, err
	}
	links, err := s.cfg.Store.InstanceModules(ctx, c.instance.ID, m.ID)
	if err != nil {
		return nil, fmt.Errorf("look for the module of the instance: %w", err)
	}
	if len(links) > 0 {
		return nil, notYet(noModules)
	}
	return nil, nil
}
