package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/store"
)

func viewFlavor(c *call, f trove.Flavor) wire.Flavor {
	out := wire.Flavor{StrID: f.ID, Name: f.Name, RAM: f.RAM, VCPUs: f.VCPUs, Disk: f.Disk, Links: c.links("flavors", f.ID)}
	if n, err := strconv.ParseInt(f.ID, 10, 64); err == nil {
		out.ID = &n
	}
	return out
}

func (s *server) listFlavors(ctx context.Context, c *call) (any, error) {
	return s.flavors(ctx, c, nil)
}

func (s *server) flavors(ctx context.Context, c *call, only []string) (any, error) {
	all, err := s.cfg.Catalog.Flavors(ctx, c.rights())
	if err != nil {
		return nil, fmt.Errorf("list the flavors: %w", err)
	}
	out := wire.FlavorList{Flavors: []wire.Flavor{}}
	for _, f := range all {
		if len(only) == 0 || slices.Contains(only, f.ID) {
			out.Flavors = append(out.Flavors, viewFlavor(c, f))
		}
	}
	return &out, nil
}

func (s *server) showFlavor(ctx context.Context, c *call) (any, error) {
	id := c.params.get("flavor")
	f, err := s.cfg.Catalog.Flavor(ctx, c.rights(), id)
	if trove.IsNotFound(err) {
		return nil, trove.Errorf(trove.KindNotFound, "Resource %s cannot be found.", id)
	}
	if err != nil {
		return nil, fmt.Errorf("read the flavor: %w", err)
	}
	return &wire.FlavorBody{Flavor: viewFlavor(c, f)}, nil
}

func viewVersion(c *call, v *trove.DatastoreVersion, alone bool) wire.DatastoreVersion {
	out := wire.DatastoreVersion{ID: v.ID, Name: v.Name, Version: v.Version, Links: c.links("datastores/versions", v.ID), RequireTLS: v.RequireTLS}
	if alone {
		out.Datastore = v.DatastoreID
	}
	if c.admin {
		packages := strings.Join(v.Packages, ",")
		out.Active, out.Packages, out.Image, out.ImageTags = &v.Active, &packages, &v.ImageID, &[]string{}
	}
	return out
}

func (s *server) viewDatastore(ctx context.Context, c *call, d trove.Datastore) (wire.Datastore, error) {
	out := wire.Datastore{ID: d.ID, Name: d.Name, Links: c.links("datastores", d.ID), DefaultVersion: d.DefaultVersionID}
	versions, err := s.versionsOf(ctx, c, d, false)
	out.Versions = versions
	return out, err
}

// versionsOf lists a datastore's versions; inactive ones are for administrators.
func (s *server) versionsOf(ctx context.Context, c *call, d trove.Datastore, alone bool) ([]wire.DatastoreVersion, error) {
	all, err := s.cfg.Store.DatastoreVersions(ctx, d.ID)
	if err != nil {
		return nil, fmt.Errorf("list the datastore versions: %w", err)
	}
	out := []wire.DatastoreVersion{}
	for n := range all {
		if all[n].Active || c.admin {
			out = append(out, viewVersion(c, &all[n], alone))
		}
	}
	return out, nil
}

func (s *server) listDatastores(ctx context.Context, c *call) (any, error) {
	all, err := s.cfg.Store.Datastores(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the datastores: %w", err)
	}
	out := wire.DatastoreList{Datastores: []wire.Datastore{}}
	for _, d := range all {
		v, err := s.viewDatastore(ctx, c, d)
		if err != nil {
			return nil, err
		}
		if len(v.Versions) > 0 || c.admin {
			out.Datastores = append(out.Datastores, v)
		}
	}
	return &out, nil
}

func (s *server) showDatastore(ctx context.Context, c *call) (any, error) {
	d, err := s.findDatastore(ctx, c.params.get("datastore"))
	if err != nil {
		return nil, err
	}
	v, err := s.viewDatastore(ctx, c, d)
	if err != nil {
		return nil, err
	}
	return &wire.DatastoreBody{Datastore: v}, nil
}

func (s *server) deleteDatastore(ctx context.Context, c *call) (any, error) {
	d, err := s.findDatastore(ctx, c.params.get("datastore"))
	if err != nil {
		return nil, err
	}
	err = s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		if err := tx.HoldDatastore(ctx, d.ID); err != nil {
			return err
		}
		versions, err := tx.DatastoreVersions(ctx, d.ID)
		if err != nil {
			return err
		}
		if len(versions) > 0 {
			return bad("Datastore versions exist for datastore %s.", c.params.get("datastore"))
		}
		return tx.DeleteDatastore(ctx, d.ID)
	})
	if err != nil {
		return nil, fmt.Errorf("delete the datastore: %w", err)
	}
	return nil, nil
}

func (s *server) listVersions(ctx context.Context, c *call) (any, error) {
	d, err := s.findDatastore(ctx, c.params.get("datastore"))
	if err != nil {
		return nil, err
	}
	versions, err := s.versionsOf(ctx, c, d, true)
	if err != nil {
		return nil, err
	}
	return &wire.DatastoreVersionList{Versions: versions}, nil
}

func (s *server) showVersion(ctx context.Context, c *call) (any, error) {
	d, err := s.findDatastore(ctx, c.params.get("datastore"))
	if err != nil {
		return nil, err
	}
	v, err := s.findVersion(ctx, d, c.params.get("version"), "")
	if err != nil {
		return nil, err
	}
	return &wire.DatastoreVersionBody{Version: viewVersion(c, &v, true)}, nil
}

func (s *server) showVersionByID(ctx context.Context, c *call) (any, error) {
	id := c.params.get("version")
	v, err := s.cfg.Store.DatastoreVersion(ctx, id)
	if err != nil {
		return nil, asBadRequest(fmt.Errorf("read the datastore version: %w", err), "Datastore version '%s' cannot be found.", id)
	}
	return &wire.DatastoreVersionBody{Version: viewVersion(c, &v, true)}, nil
}

// listVersionFlavors lists the flavors of a version. Of a version that is not there it lists all, as Trove does.
func (s *server) listVersionFlavors(ctx context.Context, c *call) (any, error) {
	d, err := s.findDatastore(ctx, c.params.get("datastore"))
	if err != nil {
		return nil, err
	}
	v, err := s.findVersion(ctx, d, c.params.get("version"), "")
	if err != nil && trove.KindOf(err) == trove.KindInternal {
		return nil, err
	}
	return s.flavors(ctx, c, v.FlavorIDs)
}

func (s *server) listVersionVolumeTypes(ctx context.Context, c *call) (any, error) {
	d, err := s.findDatastore(ctx, c.params.get("datastore"))
	if err != nil {
		return nil, err
	}
	v, err := s.findVersion(ctx, d, c.params.get("version"), "")
	if err != nil {
		return nil, err
	}
	types, err := s.cfg.Catalog.VolumeTypes(ctx, c.rights())
	if err != nil {
		return nil, fmt.Errorf("list the volume types: %w", err)
	}
	out := wire.VolumeTypeList{VolumeTypes: []wire.VolumeType{}}
	for _, t := range types {
		if len(v.VolumeTypes) == 0 || slices.Contains(v.VolumeTypes, t.ID) {
			out.VolumeTypes = append(out.VolumeTypes, wire.VolumeType(t))
		}
	}
	return &out, nil
}

var absolute = []struct {
	resource string
	set      func(*wire.Limit, *int)
}{
	{trove.QuotaInstances, func(l *wire.Limit, n *int) { l.MaxInstances = n }},
	{trove.QuotaRAM, func(l *wire.Limit, n *int) { l.MaxRAM = n }},
	{trove.QuotaVolumes, func(l *wire.Limit, n *int) { l.MaxVolumes = n }},
	{trove.QuotaBackups, func(l *wire.Limit, n *int) { l.MaxBackups = n }},
}

// showLimits lists the quotas first: clients take the first element for them.
func (s *server) showLimits(ctx context.Context, c *call) (any, error) {
	quotas, err := s.cfg.Store.Quotas(ctx, c.project)
	if err != nil {
		return nil, fmt.Errorf("read the quotas: %w", err)
	}
	first := wire.Limit{Verb: "ABSOLUTE"}
	for _, q := range quotas {
		for _, a := range absolute {
			if a.resource == q.Resource {
				a.set(&first, &q.Limit)
			}
		}
	}
	out := wire.Limits{Limits: []wire.Limit{first}}
	now := s.cfg.Clock.Now()
	for _, verb := range rateVerbs {
		if limit := s.rates.perMinute[verb]; limit > 0 {
			remaining, next := s.rates.left(c.project, verb, now)
			out.Limits = append(out.Limits, rateLimit(verb, "*", ".*", limit, remaining, next.UTC().Format(wire.Layout)+"Z"))
		}
	}
	if limit := s.rates.perMinute[http.MethodPost]; limit > 0 { // Trove's fifth rule, which nothing ever matches
		out.Limits = append(out.Limits, rateLimit(http.MethodPost, "*/mgmt", "^/mgmt", limit, limit, now.UTC().Format(wire.Layout)+"Z"))
	}
	return &out, nil
}

func rateLimit(verb, uri, regex string, limit, remaining int, next string) wire.Limit {
	return wire.Limit{Verb: verb, URI: uri, Regex: regex, Value: &limit, Unit: "MINUTE", Remaining: &remaining, NextAvailable: &next}
}

func (s *server) showQuotas(ctx context.Context, c *call) (any, error) {
	tenant := c.params.get("tenant")
	if tenant != c.project && !c.admin {
		return nil, trove.Errorf(trove.KindForbidden, "Operation not allowed for tenant %s.", c.project)
	}
	quotas, err := s.cfg.Store.Quotas(ctx, tenant)
	if err != nil {
		return nil, fmt.Errorf("read the quotas: %w", err)
	}
	out := wire.QuotaList{Quotas: []wire.Quota{}}
	for _, q := range quotas {
		out.Quotas = append(out.Quotas, wire.Quota{Resource: q.Resource, InUse: q.InUse, Reserved: q.Reserved, Limit: q.Limit})
	}
	return &out, nil
}

// updateQuotas sets the limits that are named and not null, all or none.
func (s *server) updateQuotas(ctx context.Context, c *call) (any, error) {
	if !c.admin {
		return nil, errNotAdmin
	}
	tenant := c.params.get("tenant")
	known, err := s.cfg.Store.Quotas(ctx, tenant)
	if err != nil {
		return nil, fmt.Errorf("read the quotas: %w", err)
	}
	out := wire.QuotaUpdate{Quotas: map[string]*int{}}
	for resource, value := range c.body.obj("quotas") {
		if !slices.ContainsFunc(known, func(q trove.Quota) bool { return q.Resource == resource }) {
			return nil, trove.Errorf(trove.KindNotFound, "Unknown quota resources %s.", resource)
		}
		if value == nil {
			continue
		}
		n, ok := whole(value)
		if !ok {
			return nil, bad("Quota limit '%s' for '%s' is not a whole number.", pythonRepr(value), resource)
		}
		if n < -1 {
			return nil, bad("Quota limit '%d' for '%s' is too small - must be at least '-1'.", n, resource)
		}
		out.Quotas[resource] = &n
	}
	err = s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		for resource, n := range out.Quotas {
			if err := tx.SetQuota(ctx, tenant, resource, *n); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("set the quotas: %w", err)
	}
	return &out, nil
}
