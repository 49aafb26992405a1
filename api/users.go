package api

import (
	"cmp"
	"context"
	"slices"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/guestapi"
)

func refOf(u trove.User) guestapi.UserRef { return guestapi.UserRef{Name: u.Name, Host: u.Host} }

// guestUsers returns the engine's users ordered by name and host.
func (s *server) guestUsers(ctx context.Context, c *call) ([]trove.User, error) {
	all, err := s.cfg.Guests.ListUsers(ctx, c.instance.ID)
	if err != nil {
		return nil, err
	}
	for n := range all {
		all[n].Host = cmp.Or(all[n].Host, anyHost)
	}
	slices.SortFunc(all, func(a, b trove.User) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Host, b.Host)) })
	return all, nil
}

func findUser(all []trove.User, ref guestapi.UserRef) (trove.User, bool) {
	n := slices.IndexFunc(all, func(u trove.User) bool { return refOf(u) == ref })
	if n < 0 {
		return trove.User{}, false
	}
	return all[n], true
}

func viewUser(u trove.User) wire.User {
	return wire.User{Name: u.Name, Host: u.Host, Databases: viewDatabases(u.Databases)}
}

func viewDatabases(names []string) []wire.Database {
	names = slices.Sorted(slices.Values(names))
	out := make([]wire.Database, len(names))
	for n, name := range names {
		out[n].Name = name
	}
	return out
}

func (s *server) listUsers(ctx context.Context, c *call) (any, error) {
	if _, err := s.guestRules(ctx, c, "users", hasUsers); err != nil {
		return nil, err
	}
	p, err := s.readPage(c, true)
	if err != nil {
		return nil, err
	}
	all, err := s.guestUsers(ctx, c)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b trove.User) int { return cmp.Compare(userID(a), userID(b)) })
	items, next := cut(all, p, userID)
	out := wire.UserList{Users: make([]wire.User, len(items))}
	for n, u := range items {
		out.Users[n] = viewUser(u)
	}
	if next != "" {
		out.Links = c.nextLink(next)
		out.UsersLinks = out.Links
	}
	return &out, nil
}

func userID(u trove.User) string { return u.Name + "@" + u.Host }

func (s *server) createUsers(ctx context.Context, c *call) (any, error) {
	rules, err := s.guestRules(ctx, c, "users", hasUsers)
	if err != nil {
		return nil, err
	}
	want, err := rules.users(c.body.list("users"), "User create error: ")
	if err != nil || len(want) == 0 {
		return nil, err
	}
	all, err := s.guestUsers(ctx, c)
	if err != nil {
		return nil, err
	}
	var missing, half []guestapi.UserArgs
	for _, w := range want {
		_, there := findUser(all, guestapi.UserRef{Name: w.Name, Host: w.Host})
		switch {
		case !there:
			missing = append(missing, w)
		case c.begun():
			half = append(half, w)
		default:
			return nil, userExists(w.Name)
		}
	}
	if err := s.begins(ctx, c); err != nil {
		return nil, err
	}
	if err := s.completeUsers(ctx, c, half); err != nil || len(missing) == 0 {
		return nil, err
	}
	return nil, s.cfg.Guests.CreateUsers(ctx, c.instance.ID, missing)
}

// completeUsers gives users what an attempt at the same call may not have come to: it was cut off after it had made them.
func (s *server) completeUsers(ctx context.Context, c *call, half []guestapi.UserArgs) error {
	for _, u := range half {
		ref := guestapi.UserRef{Name: u.Name, Host: u.Host}
		if err := s.cfg.Guests.UpdateUser(ctx, c.instance.ID, guestapi.UpdateUserArgs{UserRef: ref, NewPassword: &u.Password}); err != nil {
			return notOnInstance(err, "User", u.Name)
		}
		if len(u.Databases) == 0 {
			continue
		}
		if err := s.cfg.Guests.Grant(ctx, c.instance.ID, ref, u.Databases); err != nil {
			return notOnInstance(err, "User", u.Name)
		}
	}
	return nil
}

func userExists(name string) error {
	return bad(`A user with the name "%s" already exists.`, name)
}

// changePasswords is PUT on the collection: all users have to be there.
func (s *server) changePasswords(ctx context.Context, c *call) (any, error) {
	if _, err := s.guestRules(ctx, c, "users", hasUsers); err != nil {
		return nil, err
	}
	want := c.body.list("users")
	if len(want) == 0 {
		return nil, nil
	}
	all, err := s.guestUsers(ctx, c)
	if err != nil {
		return nil, err
	}
	changes := make([]guestapi.UpdateUserArgs, len(want))
	for n, w := range want {
		ref := guestapi.UserRef{Name: w.str("name"), Host: cmp.Or(w.str("host"), anyHost)}
		if _, there := findUser(all, ref); !there {
			return nil, trove.Errorf(trove.KindNotFound, "User %s@%s cannot be found on the instance.", ref.Name, ref.Host)
		}
		changes[n] = guestapi.UpdateUserArgs{UserRef: ref, NewPassword: w.strPtr("password")}
	}
	for _, change := range changes {
		if err := s.cfg.Guests.UpdateUser(ctx, c.instance.ID, change); err != nil {
			return nil, notOnInstance(err, "User", change.Name)
		}
	}
	return nil, nil
}

// pathUser finds the user of the path; doing stands before sentences about its name.
func (s *server) pathUser(ctx context.Context, c *call, doing string) (nameRules, []trove.User, trove.User, error) {
	rules, err := s.guestRules(ctx, c, "users", hasUsers)
	if err != nil {
		return rules, nil, trove.User{}, err
	}
	id := c.params.get("user")
	ref := splitUser(id)
	if err := rules.user(doing, ref.Name); err != nil {
		return rules, nil, trove.User{}, err
	}
	if err := rules.host(doing, ref.Host); err != nil {
		return rules, nil, trove.User{}, err
	}
	all, err := s.guestUsers(ctx, c)
	if err != nil {
		return rules, nil, trove.User{}, err
	}
	u, there := findUser(all, ref)
	if !there {
		return rules, nil, trove.User{}, trove.Errorf(trove.KindNotFound, "User %s cannot be found on the instance.", unquote(id))
	}
	return rules, all, u, nil
}

func (s *server) showUser(ctx context.Context, c *call) (any, error) {
	_, _, u, err := s.pathUser(ctx, c, "User show error: ")
	if err != nil {
		return nil, err
	}
	return &wire.UserBody{User: viewUser(u)}, nil
}

func (s *server) deleteUser(ctx context.Context, c *call) (any, error) {
	_, _, u, err := s.pathUser(ctx, c, "User delete error: ")
	if err != nil {
		return nil, err
	}
	if err := s.cfg.Guests.DropUser(ctx, c.instance.ID, refOf(u)); err != nil {
		return nil, notOnInstance(err, "User", u.Name)
	}
	return nil, nil
}

func (s *server) updateUser(ctx context.Context, c *call) (any, error) {
	const doing = "User update error: "
	rules, all, u, err := s.pathUser(ctx, c, doing)
	if err != nil {
		return nil, err
	}
	want := c.body.obj("user")
	change := guestapi.UpdateUserArgs{
		UserRef: refOf(u), NewName: want.strPtr("name"), NewHost: want.strPtr("host"), NewPassword: want.strPtr("password"),
	}
	target := change.UserRef
	if change.NewName != nil {
		if err := rules.user(doing, *change.NewName); err != nil {
			return nil, err
		}
		target.Name = *change.NewName
	}
	if change.NewHost != nil {
		if err := rules.host(doing, *change.NewHost); err != nil {
			return nil, err
		}
		target.Host = *change.NewHost
	}
	if _, there := findUser(all, target); there && target != change.UserRef {
		return nil, userExists(target.Name)
	}
	if err := s.cfg.Guests.UpdateUser(ctx, c.instance.ID, change); err != nil {
		return nil, notOnInstance(err, "User", u.Name)
	}
	return nil, nil
}

const loadingUser = "Error loading user: "

func (s *server) listGrants(ctx context.Context, c *call) (any, error) {
	_, _, u, err := s.pathUser(ctx, c, loadingUser)
	if err != nil {
		return nil, err
	}
	return &wire.DatabaseNames{Databases: viewDatabases(u.Databases)}, nil
}

func (s *server) grant(ctx context.Context, c *call) (any, error) {
	rules, _, u, err := s.pathUser(ctx, c, loadingUser)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, d := range c.body.list("databases") {
		name := d.str("name")
		if err := rules.database(name); err != nil {
			return nil, err
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	if err := s.cfg.Guests.Grant(ctx, c.instance.ID, refOf(u), names); err != nil {
		return nil, notOnInstance(err, "User", u.Name)
	}
	return nil, nil
}

func (s *server) revoke(ctx context.Context, c *call) (any, error) {
	_, _, u, err := s.pathUser(ctx, c, loadingUser)
	if err != nil {
		return nil, err
	}
	name := unquote(c.params.get("database"))
	if !slices.Contains(u.Databases, name) {
		return nil, trove.Errorf(trove.KindNotFound, "Database %s cannot be found on the instance.", name)
	}
	if err := s.cfg.Guests.Revoke(ctx, c.instance.ID, refOf(u), name); err != nil {
		return nil, notOnInstance(err, "Database", name)
	}
	return nil, nil
}
