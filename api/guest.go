package api

import (
	"context"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
)

// guestRules checks that the instance's database can be asked and has the ability, and returns the rules of its names.
func (s *server) guestRules(ctx context.Context, c *call, what string, able func(trove.Capabilities) bool) (nameRules, error) {
	i := &c.instance
	if i.Stopped() {
		return nameRules{}, i.CheckActionable(i.BackingUp)
	}
	if i.Guest.Service != trove.ServiceRunning && i.Guest.Service != trove.ServiceHealthy {
		status := i.Guest.Service
		if status == "" {
			status = trove.ServiceNew
		}
		return nameRules{}, trove.Errorf(trove.KindUnprocessable, "Instance %s is not ready, status: %s.", i.ID, status)
	}
	version, known, err := s.datastoreVersion(ctx, i.DatastoreVersionID)
	if err != nil {
		return nameRules{}, err
	}
	if known && !able(version.Capabilities) {
		return nameRules{}, unsupported(what, version.DatastoreName)
	}
	return rulesOf(&version), nil
}

func hasDatabases(c trove.Capabilities) bool { return c.Databases }
func hasUsers(c trove.Capabilities) bool     { return c.Users }
func hasRoot(c trove.Capabilities) bool      { return c.Root }

// cut returns the page of a list that is ordered by its keys, and the marker of the next page, "" if there is none.
func cut[T any](all []T, p page, key func(T) string) (items []T, next string) {
	marker := unquote(p.marker)
	if marker != "" {
		n, _ := slices.BinarySearchFunc(all, marker, func(item T, marker string) int {
			if key(item) <= marker {
				return -1
			}
			return 1
		})
		all = all[n:]
	}
	if p.limit > 0 && len(all) > p.limit {
		all = all[:p.limit]
		next = key(all[p.limit-1])
	}
	return all, next
}

func (s *server) listDatabases(ctx context.Context, c *call) (any, error) {
	if _, err := s.guestRules(ctx, c, "databases", hasDatabases); err != nil {
		return nil, err
	}
	p, err := s.readPage(c, true)
	if err != nil {
		return nil, err
	}
	all, err := s.cfg.Guests.ListDatabases(ctx, c.instance.ID)
	if err != nil {
		return nil, err
	}
	byName := func(d trove.Database) string { return d.Name }
	slices.SortFunc(all, func(a, b trove.Database) int { return strings.Compare(a.Name, b.Name) })
	items, next := cut(all, p, byName)
	out := wire.DatabaseList{Databases: make([]wire.Database, len(items))}
	for n, d := range items {
		out.Databases[n].Name = d.Name
	}
	if next != "" {
		out.Links = c.nextLink(next)
		out.DatabasesLinks = out.Links
	}
	return &out, nil
}

// createDatabases makes all of them, or none if one is there already.
func (s *server) createDatabases(ctx context.Context, c *call) (any, error) {
	rules, err := s.guestRules(ctx, c, "databases", hasDatabases)
	if err != nil {
		return nil, err
	}
	want, err := rules.databases(c.body.list("databases"))
	if err != nil || len(want) == 0 {
		return nil, err
	}
	all, err := s.cfg.Guests.ListDatabases(ctx, c.instance.ID)
	if err != nil {
		return nil, err
	}
	var missing []trove.Database
	for _, w := range want {
		if !slices.ContainsFunc(all, func(d trove.Database) bool { return d.Name == w.Name }) {
			missing = append(missing, w)
		} else if !c.begun() {
			return nil, bad(`A database with the name "%s" already exists.`, w.Name)
		}
	}
	if err := s.begins(ctx, c); err != nil {
		return nil, err
	}
	if len(missing) == 0 {
		return nil, nil
	}
	return nil, s.cfg.Guests.CreateDatabases(ctx, c.instance.ID, missing)
}

func (s *server) showDatabase(context.Context, *call) (any, error) {
	return nil, trove.Errorf(trove.KindNotImplemented, "The server has either erred or is incapable of performing the requested operation.")
}

func (s *server) deleteDatabase(ctx context.Context, c *call) (any, error) {
	rules, err := s.guestRules(ctx, c, "databases", hasDatabases)
	if err != nil {
		return nil, err
	}
	name := unquote(c.params.get("database"))
	if text := reserved("Database", name, rules.caps.ReservedDatabases); text != "" {
		return nil, bad("Database delete error: Cannot delete database: %s", text)
	}
	if err := s.cfg.Guests.DropDatabase(ctx, c.instance.ID, name); err != nil {
		return nil, notOnInstance(err, "Database", name)
	}
	return nil, nil
}

// notOnInstance gives a guest's NotFound the words that Trove has for it.
func notOnInstance(err error, what, name string) error {
	if trove.IsNotFound(err) {
		return trove.Wrap(trove.KindNotFound, err, "%s %s cannot be found on the instance.", what, name)
	}
	return err
}
