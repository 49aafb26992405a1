package fake

import (
	"cmp"
	"context"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// Prepare replaces the whole content; it needs no process.
func (e *Engine) Prepare(_ context.Context, l engine.Layout, p engine.Preparation) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.begin(OpPrepare); err != nil {
		return err
	}
	s := state{InstanceID: p.InstanceID, Settings: p.Settings, TLS: tlsState{Service: p.TLSCert}}
	for _, d := range p.Databases {
		if err := s.createDatabase(d); err != nil {
			return err
		}
	}
	for _, u := range p.Users {
		if err := s.createUser(u); err != nil {
			return err
		}
	}
	if p.RootPassword != "" {
		s.Root = hash(p.RootPassword)
	}
	return write(l, s)
}

// Configure keeps the settings. An override called "invalid" is BadRequest.
func (e *Engine) Configure(_ context.Context, l engine.Layout, settings engine.Settings) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.begin(OpConfigure); err != nil {
		return err
	}
	if _, bad := settings.Overrides["invalid"]; bad {
		return trove.Errorf(trove.KindBadRequest, "The parameter invalid cannot be set.")
	}
	s, err := read(l)
	if err != nil {
		return err
	}
	s.Settings = settings
	return write(l, s)
}

// Settings returns what Prepare or Configure kept, for tests.
func Settings(l engine.Layout) (engine.Settings, error) {
	s, err := read(l)
	return s.Settings, err
}

// CheckPassword reports whether a user, or root, has this password, for tests.
func CheckPassword(l engine.Layout, name, host string, password trove.Secret) (bool, error) {
	s, err := read(l)
	if err != nil {
		return false, err
	}
	if name == "root" {
		return s.Root == hash(password), nil
	}
	i := s.find(name, host)
	return i >= 0 && s.Users[i].Hash == hash(password), nil
}

func checkName(what, name string, limit int, reserved ...string) error {
	switch {
	case name == "" || utf8.RuneCountInString(name) > limit || strings.ContainsFunc(name, unicode.IsControl):
		return trove.Errorf(trove.KindBadRequest, "%q is not a %s.", name, what)
	case slices.Contains(reserved, name):
		return trove.Errorf(trove.KindBadRequest, "The %s %q is reserved.", what, name)
	}
	return nil
}

func checkDatabase(name string) error { return checkName("database name", name, 64, "system") }
func checkUser(name string) error     { return checkName("user name", name, 32, "root", "os_admin") }

func orAny(host string) string { return cmp.Or(host, "%") }

func (s *state) find(name, host string) int {
	return slices.IndexFunc(s.Users, func(u user) bool { return u.Name == name && u.Host == orAny(host) })
}

func noUser(name, host string) error {
	return trove.Errorf(trove.KindNotFound, "The user %s@%s cannot be found.", name, orAny(host))
}

var charsetPattern = regexp.MustCompile(`^[A-Za-z0-9_]*$`)

func (s *state) createDatabase(d trove.Database) error {
	if err := checkDatabase(d.Name); err != nil {
		return err
	}
	if !charsetPattern.MatchString(d.CharacterSet) || !charsetPattern.MatchString(d.Collate) {
		return trove.Errorf(trove.KindBadRequest, "The character set %q or the collation %q cannot be used.", d.CharacterSet, d.Collate)
	}
	if slices.ContainsFunc(s.Databases, func(o trove.Database) bool { return o.Name == d.Name }) {
		return trove.Errorf(trove.KindConflict, "The database %q exists already.", d.Name)
	}
	s.Databases = append(s.Databases, d)
	slices.SortFunc(s.Databases, func(a, b trove.Database) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

func (s *state) createUser(u trove.User) error {
	if err := checkUser(u.Name); err != nil {
		return err
	}
	if u.Password == "" {
		return trove.Errorf(trove.KindBadRequest, "The password must not be empty.")
	}
	if s.find(u.Name, u.Host) >= 0 {
		return trove.Errorf(trove.KindConflict, "The user %s@%s exists already.", u.Name, orAny(u.Host))
	}
	for _, d := range u.Databases {
		if err := checkDatabase(d); err != nil {
			return err
		}
	}
	databases := slices.Compact(slices.Sorted(slices.Values(u.Databases)))
	s.Users = append(s.Users, user{Name: u.Name, Host: orAny(u.Host), Hash: hash(u.Password), Databases: databases})
	s.sortUsers()
	return nil
}

func (s *state) sortUsers() {
	slices.SortFunc(s.Users, func(a, b user) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Host, b.Host)) })
}

// Databases lists the databases.
func (e *Engine) Databases(_ context.Context, l engine.Layout) ([]trove.Database, error) {
	s, err := e.view(OpDatabases, l)
	return append([]trove.Database{}, s.Databases...), err
}

// CreateDatabase notes a database.
func (e *Engine) CreateDatabase(_ context.Context, l engine.Layout, d trove.Database) error {
	return e.change(OpCreateDatabase, l, func(s *state) error { return s.createDatabase(d) })
}

// DropDatabase forgets a database.
func (e *Engine) DropDatabase(_ context.Context, l engine.Layout, name string) error {
	return e.change(OpDropDatabase, l, func(s *state) error {
		if err := checkDatabase(name); err != nil {
			return err
		}
		i := slices.IndexFunc(s.Databases, func(d trove.Database) bool { return d.Name == name })
		if i < 0 {
			return trove.Errorf(trove.KindNotFound, "The database %q cannot be found.", name)
		}
		s.Databases = slices.Delete(s.Databases, i, i+1)
		return nil
	})
}

// Users lists the users.
func (e *Engine) Users(_ context.Context, l engine.Layout) ([]trove.User, error) {
	s, err := e.view(OpUsers, l)
	all := []trove.User{}
	for _, u := range s.Users {
		all = append(all, trove.User{Name: u.Name, Host: u.Host, Databases: u.Databases})
	}
	return all, err
}

// CreateUser notes a user.
func (e *Engine) CreateUser(_ context.Context, l engine.Layout, u trove.User) error {
	return e.change(OpCreateUser, l, func(s *state) error { return s.createUser(u) })
}

// DropUser forgets a user.
func (e *Engine) DropUser(_ context.Context, l engine.Layout, name, host string) error {
	return e.changeUser(OpDropUser, l, name, host, func(s *state, i int) error {
		s.Users = slices.Delete(s.Users, i, i+1)
		return nil
	})
}

// changeUser runs do with the index of a user that is there.
func (e *Engine) changeUser(op Op, l engine.Layout, name, host string, do func(s *state, i int) error) error {
	return e.change(op, l, func(s *state) error {
		if err := checkUser(name); err != nil {
			return err
		}
		i := s.find(name, host)
		if i < 0 {
			return noUser(name, host)
		}
		return do(s, i)
	})
}

// UpdateUser changes a user.
func (e *Engine) UpdateUser(_ context.Context, l engine.Layout, name, host string, c engine.UserChange) error {
	return e.changeUser(OpUpdateUser, l, name, host, func(s *state, i int) error {
		u := s.Users[i]
		if c.Name != nil {
			u.Name = *c.Name
		}
		if c.Host != nil {
			u.Host = orAny(*c.Host)
		}
		if c.Password != nil {
			if *c.Password == "" {
				return trove.Errorf(trove.KindBadRequest, "The password must not be empty.")
			}
			u.Hash = hash(*c.Password)
		}
		if err := checkUser(u.Name); err != nil {
			return err
		}
		if j := s.find(u.Name, u.Host); j >= 0 && j != i {
			return trove.Errorf(trove.KindConflict, "The user %s@%s exists already.", u.Name, u.Host)
		}
		s.Users[i] = u
		s.sortUsers()
		return nil
	})
}

// Grant notes rights.
func (e *Engine) Grant(_ context.Context, l engine.Layout, name, host string, databases []string) error {
	return e.changeUser(OpGrant, l, name, host, func(s *state, i int) error {
		for _, d := range databases {
			if err := checkDatabase(d); err != nil {
				return err
			}
		}
		all := slices.Concat(s.Users[i].Databases, databases)
		slices.Sort(all)
		s.Users[i].Databases = slices.Compact(all)
		return nil
	})
}

// Revoke forgets a right.
func (e *Engine) Revoke(_ context.Context, l engine.Layout, name, host, database string) error {
	return e.changeUser(OpRevoke, l, name, host, func(s *state, i int) error {
		j := slices.Index(s.Users[i].Databases, database)
		if j < 0 {
			return trove.Errorf(trove.KindNotFound, "The user %s@%s has no rights on the database %q.", name, orAny(host), database)
		}
		s.Users[i].Databases = slices.Delete(s.Users[i].Databases, j, j+1)
		return nil
	})
}

// EnableRoot notes root's password.
func (e *Engine) EnableRoot(_ context.Context, l engine.Layout, password trove.Secret) error {
	return e.change(OpEnableRoot, l, func(s *state) error {
		if password == "" {
			return trove.Errorf(trove.KindBadRequest, "The password must not be empty.")
		}
		s.Root = hash(password)
		return nil
	})
}

// DisableRoot forgets root's password.
func (e *Engine) DisableRoot(_ context.Context, l engine.Layout) error {
	return e.change(OpDisableRoot, l, func(s *state) error {
		s.Root = ""
		return nil
	})
}

// RootEnabled reports whether root has a password.
func (e *Engine) RootEnabled(_ context.Context, l engine.Layout) (bool, error) {
	s, err := e.view(OpRootEnabled, l)
	return s.Root != "", err
}
