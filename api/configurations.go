package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/internal/figures"
	"github.com/trove-dbaas/trove/store"
)

// hidden stands for a value that is a secret.
const hidden = "***"

// secretParameter reports whether a parameter's values are not shown.
func secretParameter(name string) bool {
	name = strings.ToLower(name)
	return strings.Contains(name, "password") || strings.Contains(name, "secret")
}

// loadGroup finds the configuration group of the path. Somebody else's is not there, except for administrators.
func (s *server) loadGroup(ctx context.Context, r store.Reader, c *call) (trove.Configuration, error) {
	id := c.params.get("configuration")
	g, err := r.Configuration(ctx, id)
	if err != nil && !trove.IsNotFound(err) {
		return g, fmt.Errorf("read the configuration group: %w", err)
	}
	if err != nil || (g.ProjectID != c.project && !c.admin) {
		return g, trove.Errorf(trove.KindNotFound, "Configuration group with ID %s could not be found.", id)
	}
	return g, nil
}

// viewGroup makes the wire form of a group; in lists values and instances are left out.
func (s *server) viewGroup(ctx context.Context, g *trove.Configuration, alone bool) (wire.ConfigurationGroup, error) {
	v, _, err := s.datastoreVersion(ctx, g.DatastoreVersionID)
	if err != nil {
		return wire.ConfigurationGroup{}, err
	}
	out := wire.ConfigurationGroup{
		ID: g.ID, Name: g.Name, Description: wire.Nullable(g.Description), Created: wire.Time(g.Created), Updated: wire.Time(g.Updated),
		DatastoreName: v.DatastoreName, DatastoreVersionID: g.DatastoreVersionID, DatastoreVersionName: v.Name,
	}
	if !alone {
		return out, nil
	}
	out.DatastoreVersionNumber = v.Version
	values := make(map[string]any, len(g.Values))
	for name, value := range g.Values {
		values[name] = value
		if secretParameter(name) {
			values[name] = hidden
		}
	}
	n, err := s.cfg.Store.CountConfigured(ctx, g.ID)
	out.Values, out.InstanceCount = &values, &n
	return out, err
}

func (s *server) listConfigurations(ctx context.Context, c *call) (any, error) {
	p, err := s.readPage(c, false)
	if err != nil {
		return nil, err
	}
	f := store.ConfigurationFilter{ProjectID: c.project, Marker: unquote(p.marker), Limit: p.limit + 1}
	if c.admin {
		f.ProjectID = ""
	}
	found, err := s.cfg.Store.Configurations(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("list the configuration groups: %w", err)
	}
	out := wire.ConfigurationGroupList{Configurations: []wire.ConfigurationGroup{}}
	if len(found) > p.limit {
		found = found[:p.limit]
		out.Links = c.nextLink(found[p.limit-1].ID)
		out.ConfigurationsLinks = out.Links
	}
	for n := range found {
		v, err := s.viewGroup(ctx, &found[n], false)
		if err != nil {
			return nil, err
		}
		out.Configurations = append(out.Configurations, v)
	}
	return &out, nil
}

func (s *server) showConfiguration(ctx context.Context, c *call) (any, error) {
	g, err := s.loadGroup(ctx, s.cfg.Store, c)
	if err != nil {
		return nil, err
	}
	v, err := s.viewGroup(ctx, &g, true)
	return &wire.ConfigurationGroupBody{Configuration: v}, err
}

func (s *server) createConfiguration(ctx context.Context, c *call) (any, error) {
	body := c.body.obj("configuration")
	version, err := s.chooseVersion(ctx, body.obj("datastore"))
	if err != nil {
		return nil, err
	}
	g := trove.Configuration{
		ID: trove.NewID(), ProjectID: c.project, Name: body.str("name"), Description: body.str("description"), DatastoreVersionID: version.ID,
		Created: s.cfg.Clock.Now(),
	}
	g.Updated = g.Created
	if g.Values, err = s.checkValues(ctx, s.cfg.Store, &version, body.obj("values")); err != nil {
		return nil, err
	}
	v, err := s.viewGroup(ctx, &g, true)
	if err != nil {
		return nil, err
	}
	out := &wire.ConfigurationGroupBody{Configuration: v}
	if err := s.willAnswer(ctx, c, out); err != nil {
		return nil, err
	}
	err = s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		if err := tx.InsertConfiguration(ctx, g); err != nil {
			return err
		}
		return holdVersion(ctx, tx, version.ID)
	})
	if err != nil {
		return nil, fmt.Errorf("create a configuration group: %w", err)
	}
	return out, nil
}

// maxValues is how long the values of a group may be together, in bytes.
const maxValues = 60_000

// checkValues checks values against the rules of a datastore version. Unknown parameters are said first.
func (s *server) checkValues(ctx context.Context, r store.Reader, v *trove.DatastoreVersion, values object) (map[string]json.RawMessage, error) {
	rules, err := r.Parameters(ctx, v.ID, false)
	if err != nil {
		return nil, fmt.Errorf("read the parameters: %w", err)
	}
	if len(rules) == 0 {
		return nil, trove.Errorf(trove.KindUnprocessable, "Configuration groups are not supported for this datastore: %s %s", v.DatastoreName, v.Name)
	}
	names := slices.Sorted(maps.Keys(values))
	seen := map[string]bool{}
	for _, name := range names {
		p, known := trove.FindParameter(rules, name)
		if !known {
			return nil, trove.Errorf(trove.KindUnprocessable, "The configuration parameter %s is not supported for this datastore: %s %s.", name,
				v.DatastoreName, v.Name)
		}
		if seen[p.Name] {
			return nil, trove.Errorf(trove.KindUnprocessable, "The configuration parameter %s is given twice.", p.Name)
		}
		seen[p.Name] = true
	}
	out, size := map[string]json.RawMessage{}, 0
	for _, name := range names {
		p, _ := trove.FindParameter(rules, name)
		raw, err := json.Marshal(values[name])
		if err != nil {
			return nil, fmt.Errorf("encode a value: %w", err)
		}
		if err := p.Check(raw); err != nil {
			return nil, err
		}
		out[name] = raw
		size += len(name) + len(raw)
	}
	if size > maxValues {
		return nil, trove.Errorf(trove.KindUnprocessable, "The values of a configuration group are longer than %d bytes together.", maxValues)
	}
	return out, nil
}

// updateConfiguration is PUT: values that are given replace all others. Without values they stay; Trove loses them then.
func (s *server) updateConfiguration(ctx context.Context, c *call) (any, error) {
	body := c.body.obj("configuration")
	return nil, s.changeGroup(ctx, c, body, func(g *trove.Configuration, values map[string]json.RawMessage) {
		if name := body.strPtr("name"); name != nil {
			g.Name = *name
		}
		if text := body.strPtr("description"); text != nil {
			g.Description = *text
		}
		if body.has("values") {
			g.Values = keepHidden(g.Values, values)
		}
	})
}

// editConfiguration is PATCH: it merges values, and nothing else.
func (s *server) editConfiguration(ctx context.Context, c *call) (any, error) {
	return nil, s.changeGroup(ctx, c, c.body.obj("configuration"), func(g *trove.Configuration, values map[string]json.RawMessage) {
		g.Values = g.With(keepHidden(g.Values, values))
	})
}

// keepHidden leaves secrets as they are that come back as they were shown.
func keepHidden(old, values map[string]json.RawMessage) map[string]json.RawMessage {
	for name, value := range values {
		if before, had := old[name]; had && secretParameter(name) && string(value) == strconv.Quote(hidden) {
			values[name] = before
		}
	}
	return values
}

func (s *server) deleteConfiguration(ctx context.Context, c *call) (any, error) {
	err := s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		g, err := s.loadGroup(ctx, tx, c)
		if err != nil {
			return err
		}
		if err := tx.DeleteConfiguration(ctx, g.ID); err != nil { // first: who attaches it meanwhile holds it
			return err
		}
		n, err := tx.CountConfigured(ctx, g.ID)
		if err == nil && n > 0 {
			err = bad("A configuration group cannot be deleted if it is associated with one or more non-terminated instances. " +
				"Detach the configuration group from all non-terminated instances and please try again.")
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("delete a configuration group: %w", err)
	}
	return nil, nil
}

func (s *server) listConfiguredInstances(ctx context.Context, c *call) (any, error) {
	g, err := s.loadGroup(ctx, s.cfg.Store, c)
	if err != nil {
		return nil, err
	}
	p, err := s.readPage(c, false)
	if err != nil {
		return nil, err
	}
	f := store.InstanceFilter{ProjectID: c.project, Marker: unquote(p.marker), Limit: p.limit + 1}
	if c.admin {
		f.ProjectID = ""
	}
	found, err := s.cfg.Store.ConfiguredInstances(ctx, g.ID, f)
	if err != nil {
		return nil, fmt.Errorf("list the instances of a configuration group: %w", err)
	}
	out := wire.ConfiguredInstanceList{Instances: []wire.ConfiguredInstance{}}
	if len(found) > p.limit {
		found = found[:p.limit]
		out.Links = c.nextLink(found[p.limit-1].ID)
		out.InstancesLinks = out.Links
	}
	for n := range found {
		out.Instances = append(out.Instances, wire.ConfiguredInstance{ID: found[n].ID, Name: found[n].Name})
	}
	return &out, nil
}

// showDefaults says what an instance's database has without a group. Whole numbers are numbers, as in Trove.
func (s *server) showDefaults(ctx context.Context, c *call) (any, error) {
	version, _, err := s.datastoreVersion(ctx, c.instance.DatastoreVersionID)
	if err != nil {
		return nil, err
	}
	e := s.cfg.Engines[version.Manager]
	if e.Defaults == nil {
		return nil, unsupported("configuration", version.DatastoreName)
	}
	f, err := s.cfg.Catalog.Flavor(ctx, cloud.AsService(), c.instance.FlavorID)
	if err != nil && !trove.IsNotFound(err) {
		return nil, fmt.Errorf("read the flavor: %w", err)
	}
	if err != nil { // the catalogue may lose a flavor that instances have
		f = trove.Flavor{RAM: c.instance.Held[trove.QuotaRAM], VCPUs: 1}
	}
	values := map[string]any{}
	for name, text := range e.Defaults(f.RAM, f.VCPUs) {
		values[name] = text
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			values[name] = n
		}
	}
	return &wire.DefaultConfigurationBody{Instance: wire.DefaultConfiguration{Configuration: values, Drift: s.driftOf(ctx, c)}}, nil
}

// driftTimeout is how long the guest has to tell what was changed in its database: the defaults are shown without it too.
const driftTimeout = 2 * time.Second

// driftOf returns what somebody changed in the running database past the API; nil while that cannot be known.
func (s *server) driftOf(ctx context.Context, c *call) []wire.Difference {
	if !figures.Measurable(&c.instance, s.cfg.Clock.Now()) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, driftTimeout)
	defer cancel()
	all, err := s.cfg.Guests.Drift(ctx, c.instance.ID)
	if err != nil {
		s.cfg.Log.DebugContext(ctx, "parameters were not compared", "instance", c.instance.ID, "err", err)
	}
	var out []wire.Difference
	for _, d := range all {
		out = append(out, wire.Difference{Name: d.Name, Wanted: d.Want, Actual: d.Is})
	}
	return out
}

// noGroup says in Trove's words for instances that a group is not there.
func noGroup(err error, id string) error {
	if trove.IsNotFound(err) {
		return trove.Wrap(trove.KindNotFound, err, "Configuration group id: %s could not be found.", id)
	}
	return fmt.Errorf("read the configuration group: %w", err)
}

// chooseGroup checks that a new instance may have a group, and returns its id; "" for none.
func (s *server) chooseGroup(ctx context.Context, c *call, id, version string) (string, error) {
	if id == "" {
		return "", nil
	}
	if err := s.enforce(c, "instance:update", c.project); err != nil {
		return "", err
	}
	g, err := s.groupOf(ctx, s.cfg.Store, c, id)
	if err != nil {
		return "", err
	}
	return g.ID, sameVersion(&g, version)
}

// groupOf finds a group that an instance shall have.
func (s *server) groupOf(ctx context.Context, r store.Reader, c *call, id string) (trove.Configuration, error) {
	g, err := r.Configuration(ctx, id)
	if err == nil && g.ProjectID != c.project && !c.admin {
		err = trove.Errorf(trove.KindNotFound, "it is another project's")
	}
	if err != nil {
		return g, noGroup(err, id)
	}
	return g, nil
}

func sameVersion(g *trove.Configuration, version string) error {
	if g.DatastoreVersionID != version {
		return bad("Datastore Version on Configuration %s does not match the Datastore Version on the instance %s.", g.DatastoreVersionID, version)
	}
	return nil
}

// addGroup adds the name of an instance's group.
func (s *server) addGroup(ctx context.Context, out *wire.Instance) error {
	if out.Configuration == nil {
		return nil
	}
	g, err := s.cfg.Store.Configuration(ctx, out.Configuration.ID)
	if trove.IsNotFound(err) {
		out.Configuration = nil
		return nil
	}
	if err != nil {
		return errors.Join(errors.New("read the name of a configuration group"), err)
	}
	out.Configuration.Name = g.Name
	return nil
}
