package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/gomodule/redigo/redis"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

func (e *Engine) noDatabases() error {
	return trove.Errorf(trove.KindBadRequest, "%s has no databases with names, and no rights on them.", e.product.title)
}

// Databases is BadRequest, as is all that makes or needs one: the product has numbered key spaces and no names for them.
func (e *Engine) Databases(context.Context, engine.Layout) ([]trove.Database, error) {
	return nil, e.noDatabases()
}

// CreateDatabase is BadRequest.
func (e *Engine) CreateDatabase(context.Context, engine.Layout, trove.Database) error {
	return e.noDatabases()
}

// DropDatabase is BadRequest.
func (e *Engine) DropDatabase(context.Context, engine.Layout, string) error { return e.noDatabases() }

// Grant is BadRequest.
func (e *Engine) Grant(context.Context, engine.Layout, string, string, []string) error {
	return e.noDatabases()
}

// Revoke is BadRequest.
func (e *Engine) Revoke(context.Context, engine.Layout, string, string, string) error {
	return e.noDatabases()
}

// Users lists the users. Each may use every key.
func (e *Engine) Users(ctx context.Context, l engine.Layout) ([]trove.User, error) {
	all := []trove.User{}
	err := e.at(l).with(ctx, func(c conn) error {
		names, err := redis.Strings(c.do(ctx, "ACL", "USERS"))
		if err != nil {
			return fmt.Errorf("list users: %w", err)
		}
		slices.Sort(names)
		for _, name := range names {
			if !slices.Contains(reservedUsers, name) {
				all = append(all, trove.User{Name: name, Host: anyHost})
			}
		}
		return nil
	})
	return all, err
}

// account is what the server knows of one.
type account struct {
	enabled bool
	hashes  []string
}

// find returns an account; false if there is none.
func (c conn) find(ctx context.Context, name string) (account, bool, error) {
	reply, err := redis.Values(c.do(ctx, "ACL", "GETUSER", name))
	if errors.Is(err, redis.ErrNil) {
		return account{}, false, nil
	}
	var a account
	for i := 0; err == nil && i+1 < len(reply); i += 2 {
		var field string
		if field, err = redis.String(reply[i], nil); err != nil {
			break
		}
		var words []string
		switch field {
		case "flags":
			words, err = redis.Strings(reply[i+1], nil)
			a.enabled = slices.Contains(words, "on")
		case "passwords":
			a.hashes, err = redis.Strings(reply[i+1], nil)
		}
	}
	if err != nil {
		return account{}, false, fmt.Errorf("find user %s: %w", name, err)
	}
	return a, true, nil
}

func (c conn) mustNotExist(ctx context.Context, name string) error {
	_, there, err := c.find(ctx, name)
	if err == nil && there {
		return trove.Errorf(trove.KindConflict, "The user %s exists already.", name)
	}
	return err
}

// setUser makes an account what the rules say.
func (c conn) setUser(ctx context.Context, name string, rules []string) error {
	args := []any{"SETUSER", name}
	for _, r := range rules {
		args = append(args, r)
	}
	return c.run(ctx, "ACL", args...)
}

// change makes a change of users and has the server write it down. If it cannot be written, as on a full volume, it did not happen.
func (e *Engine) change(ctx context.Context, l engine.Layout, do func(c conn) error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.at(l).with(ctx, func(c conn) error {
		err := do(c)
		if err == nil {
			if err = c.run(ctx, "ACL", "SAVE"); err != nil {
				err = trove.Wrap(trove.KindUnavailable, err, "The database cannot write down the change of its users. Its volume may be full.")
			}
		}
		if kind := trove.KindOf(err); err == nil || kind == trove.KindNotFound || kind == trove.KindConflict {
			return err // nothing was changed; reading the file again would end connections
		}
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), dialTimeout)
		defer cancel()
		if back := c.run(undo, "ACL", "LOAD"); back != nil {
			e.log.Error("change of users not taken back", "err", back)
		}
		return err
	})
}

func noUser(name string) error {
	return trove.Errorf(trove.KindNotFound, "The user %s cannot be found.", name)
}

func (e *Engine) checkNewUser(u trove.User) error {
	if err := checkUser(u.Name, u.Host); err != nil {
		return err
	}
	if len(u.Databases) > 0 {
		return e.noDatabases()
	}
	return checkPassword(u.Password)
}

// CreateUser makes a user who may use every key.
func (e *Engine) CreateUser(ctx context.Context, l engine.Layout, u trove.User) error {
	if err := e.checkNewUser(u); err != nil {
		return err
	}
	return e.change(ctx, l, func(c conn) error {
		if err := c.mustNotExist(ctx, u.Name); err != nil {
			return err
		}
		if err := c.setUser(ctx, u.Name, withPassword(passwordHash(u.Password), e.product.userRules())); err != nil {
			return fmt.Errorf("create user %s: %w", u.Name, err)
		}
		return nil
	})
}

// DropUser removes a user and ends its connections.
func (e *Engine) DropUser(ctx context.Context, l engine.Layout, name, host string) error {
	if err := checkUser(name, host); err != nil {
		return err
	}
	return e.change(ctx, l, func(c conn) error {
		n, err := redis.Int(c.do(ctx, "ACL", "DELUSER", name))
		if err != nil {
			return fmt.Errorf("drop user %s: %w", name, err)
		}
		if n == 0 {
			return noUser(name)
		}
		return nil
	})
}

// UpdateUser changes password and name. The server cannot rename: another user takes over, and connections under the old name end. Until both are
// written down neither is.
func (e *Engine) UpdateUser(ctx context.Context, l engine.Layout, name, host string, change engine.UserChange) error {
	to, err := changed(name, host, change)
	if err != nil {
		return err
	}
	return e.change(ctx, l, func(c conn) error {
		a, there, err := c.find(ctx, name)
		if err != nil {
			return err
		}
		if !there {
			return noUser(name)
		}
		words := []string{"reset", "on"}
		if change.Password != nil {
			a.hashes = []string{passwordHash(*change.Password)}
		}
		for _, hash := range a.hashes {
			words = append(words, "#"+hash)
		}
		if to != name {
			if err := c.mustNotExist(ctx, to); err != nil {
				return err
			}
		}
		if err := c.setUser(ctx, to, append(words, e.product.userRules()...)); err != nil {
			return fmt.Errorf("change user %s: %w", name, err)
		}
		if to == name {
			return nil
		}
		if err := c.run(ctx, "ACL", "DELUSER", name); err != nil {
			return fmt.Errorf("rename user %s: %w", name, err)
		}
		return nil
	})
}

// changed checks a change and returns the user's name after it.
func changed(name, host string, change engine.UserChange) (string, error) {
	if err := checkUser(name, host); err != nil {
		return "", err
	}
	to := name
	if change.Name != nil {
		to = *change.Name
	}
	if change.Host != nil {
		host = *change.Host
	}
	if change.Password != nil {
		if err := checkPassword(*change.Password); err != nil {
			return "", err
		}
	}
	return to, checkUser(to, host)
}

// EnableRoot lets clients in as the user default, which is who a client is that gives a password and no name.
func (e *Engine) EnableRoot(ctx context.Context, l engine.Layout, password trove.Secret) error {
	if err := checkPassword(password); err != nil {
		return err
	}
	return e.change(ctx, l, func(c conn) error {
		return c.setRoot(ctx, withPassword(passwordHash(password), e.product.rootRules()))
	})
}

// DisableRoot forbids it and ends its connections.
func (e *Engine) DisableRoot(ctx context.Context, l engine.Layout) error {
	return e.change(ctx, l, func(c conn) error {
		if err := c.setRoot(ctx, nobody); err != nil {
			return err
		}
		return c.run(ctx, "CLIENT", "KILL", "USER", rootName, "SKIPME", "yes")
	})
}

func (c conn) setRoot(ctx context.Context, rules []string) error {
	if err := c.setUser(ctx, rootName, rules); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	return nil
}

// RootEnabled asks for it.
func (e *Engine) RootEnabled(ctx context.Context, l engine.Layout) (enabled bool, err error) {
	err = e.at(l).with(ctx, func(c conn) error {
		a, there, err := c.find(ctx, rootName)
		enabled = there && a.enabled
		return err
	})
	return enabled, err
}
