package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/store"
)

// How a change of configuration reaches guests. The store is the truth and guests follow. A change is told to the guests first and written last, so that what
// a database refuses never is in the store:
//
//  1. one transaction raises the revision of each instance's configuration: from now on the taskmanager tells its guest what the store says, should
//     nobody finish what begins here before toldWithin has passed;
//  2. the guests are told, with that revision;
//  3. one transaction writes the change and notes who has followed. Who was away, or changed meanwhile, stays one to be told.
//
// If a guest refuses, those that were told before it are told the old values again, and nothing is written.

// toldWithin is how long the taskmanager leaves a guest to the request that is telling it: longer than a guest may take.
const toldWithin = time.Minute

// tellAtOnce is how many guests are told at the same time.
const tellAtOnce = 16

// changeAttempts is how often a change is begun anew because another one was quicker.
const changeAttempts = 4

// told is what came of telling one guest.
type told struct {
	instance string
	revision int64
	taken    bool
	restart  bool
	err      error
}

// tellable reports whether the instance's guest may be told now: no operation is on it that tells it itself.
func tellable(i *trove.Instance) bool {
	return (i.Task == trove.TaskNone || i.Task == trove.TaskRestartRequired) && i.ServerStatus == trove.ServerActive
}

// begin raises the revisions of the instances.
func (s *server) beginTelling(ctx context.Context, tx store.Tx, ids ...string) ([]told, error) {
	now := s.cfg.Clock.Now()
	var all []told
	for _, id := range ids {
		revision, err := tx.BeginConfiguration(ctx, id, now, now.Add(toldWithin))
		if err != nil {
			return nil, err
		}
		all = append(all, told{instance: id, revision: revision})
	}
	return all, nil
}

// tell tells all guests and returns the first refusal. A guest that is away is none.
func (s *server) tell(ctx context.Context, all []told, overrides map[string]json.RawMessage) error {
	var wg sync.WaitGroup
	slots := make(chan struct{}, tellAtOnce)
	for n := range all {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			t := &all[n]
			done, err := s.cfg.Guests.ApplyConfiguration(ctx, t.instance, guestapi.ApplyConfigurationArgs{Revision: t.revision, Overrides: overrides})
			t.taken, t.restart, t.err = err == nil, len(done.Restart) > 0, err
		})
	}
	wg.Wait()
	for _, t := range all {
		if kind := trove.KindOf(t.err); t.err != nil && kind != trove.KindUnavailable && kind != trove.KindConflict {
			return t.err
		}
	}
	return ctx.Err()
}

// tellBack tells guests again what the store says, after a change that was not written. Whom it does not reach the taskmanager tells.
func (s *server) tellBack(ctx context.Context, all []told, overrides map[string]json.RawMessage) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), toldWithin/2)
	defer cancel()
	ids := make([]string, len(all))
	for n := range all {
		ids[n] = all[n].instance
	}
	var again []told
	err := s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		again, err = s.beginTelling(ctx, tx, ids...)
		return err
	})
	if err == nil {
		err = s.tell(ctx, again, overrides)
	}
	err = errors.Join(err, s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		for _, t := range again {
			if t.taken {
				if err := tx.EndConfiguration(ctx, t.instance, t.revision); err != nil {
					return err
				}
			}
		}
		return nil
	}))
	if err != nil {
		s.cfg.Log.WarnContext(ctx, "not all guests were told the old configuration again", "err", err)
	}
}

// followed notes in the row what a guest said of the change.
func (s *server) followed(ctx context.Context, tx store.Tx, t told, change func(i *trove.Instance) error) error {
	err := tx.UpdateInstance(ctx, t.instance, s.cfg.Clock.Now(), func(i *trove.Instance) error {
		if err := change(i); err != nil {
			return err
		}
		if t.restart {
			i.Task = trove.TaskRestartRequired
		} else if i.Task == trove.TaskRestartRequired {
			i.Task = trove.TaskNone
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := tx.EndConfiguration(ctx, t.instance, t.revision); err != nil {
		return err
	}
	return tx.SetConfigurationRestart(ctx, t.instance, t.restart)
}

// repeat runs a change until no other one was quicker.
func repeat(change func() error) error {
	for n := 1; ; n++ {
		if err := change(); trove.KindOf(err) != trove.KindConflict || n == changeAttempts {
			return err
		}
	}
}

// changeGroup changes a group and all databases that have it.
func (s *server) changeGroup(ctx context.Context, c *call, body object, change func(g *trove.Configuration, values map[string]json.RawMessage)) error {
	err := repeat(func() error {
		var old, next trove.Configuration
		var all []told
		err := s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
			if old, err = s.loadGroup(ctx, tx, c); err != nil {
				return err
			}
			if next, err = s.changed(ctx, tx, old, body, change); err != nil {
				return err
			}
			if maps.EqualFunc(old.Values, next.Values, sameValue) { // databases have nothing to do with it
				return tx.UpdateConfiguration(ctx, next, s.cfg.Clock.Now())
			}
			ids, err := tellableOf(ctx, tx, old.ID)
			if err != nil {
				return err
			}
			all, err = s.beginTelling(ctx, tx, ids...)
			return err
		})
		if err != nil || maps.EqualFunc(old.Values, next.Values, sameValue) {
			return err
		}
		if err = s.tell(ctx, all, next.Overrides()); err == nil {
			err = s.writeGroup(ctx, next, all)
		}
		if err != nil {
			s.tellBack(ctx, all, old.Overrides())
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("change a configuration group: %w", err)
	}
	return nil
}

func sameValue(a, b json.RawMessage) bool { return string(a) == string(b) }

// changed returns the group with the change, checked.
func (s *server) changed(ctx context.Context, tx store.Tx, g trove.Configuration, body object,
	change func(g *trove.Configuration, values map[string]json.RawMessage),
) (trove.Configuration, error) {
	values := map[string]json.RawMessage{}
	if body.has("values") && len(body.obj("values")) > 0 {
		v, err := tx.DatastoreVersion(ctx, g.DatastoreVersionID)
		if err != nil {
			return g, err
		}
		if values, err = s.checkValues(ctx, tx, &v, body.obj("values")); err != nil {
			return g, err
		}
	}
	g.Values = maps.Clone(g.Values)
	change(&g, values)
	size := 0
	for name, value := range g.Values {
		size += len(name) + len(value)
	}
	if size > maxValues {
		return g, trove.Errorf(trove.KindUnprocessable, "The values of a configuration group are longer than %d bytes together.", maxValues)
	}
	return g, nil
}

func tellableOf(ctx context.Context, r store.Reader, group string) ([]string, error) {
	found, err := r.ConfiguredInstances(ctx, group, store.InstanceFilter{})
	if err != nil {
		return nil, err
	}
	var ids []string
	for n := range found {
		if tellable(&found[n]) {
			ids = append(ids, found[n].ID)
		}
	}
	return ids, nil
}

// writeGroup writes a group whose values the guests have been told.
func (s *server) writeGroup(ctx context.Context, g trove.Configuration, all []told) error {
	taken := map[string]told{}
	for _, t := range all {
		if t.taken {
			taken[t.instance] = t
		}
	}
	return s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		now := s.cfg.Clock.Now()
		if err := tx.UpdateConfiguration(ctx, g, now); err != nil {
			return err
		}
		found, err := tx.ConfiguredInstances(ctx, g.ID, store.InstanceFilter{})
		if err != nil {
			return err
		}
		for n := range found {
			i := &found[n]
			t, ok := taken[i.ID]
			if ok && tellable(i) {
				err = s.followed(ctx, tx, t, func(*trove.Instance) error { return nil })
			} else { // away, stopped, or at work with what it was told before
				_, err = tx.BeginConfiguration(ctx, i.ID, now, now)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// checkGroup says whether an instance may get a group, or lose its own with "".
func checkGroup(i *trove.Instance, group string) error {
	if group != "" && i.ConfigurationID != "" {
		return bad("Instance %s already has a Configuration Group attached: %s.", i.ID, i.ConfigurationID)
	}
	if tellable(i) || (i.Stopped() && i.Task == trove.TaskNone) {
		return nil
	}
	if i.Task == trove.TaskBuilding {
		return trove.Errorf(trove.KindUnprocessable, "Instance %s is not ready.", i.ID)
	}
	status := i.Status(false)
	if i.Task != trove.TaskNone && !i.Task.IsError() {
		status = i.Task.Action()
	}
	return bad("The operation you have requested cannot be executed because the instance status is currently: %s.", status)
}

// attach gives the instance a group, or takes its group with "". The database has what it says when this returns; that of a stopped
// instance gets it when it is started.
func (s *server) attach(ctx context.Context, c *call, group string) error {
	err := repeat(func() error {
		var g, before trove.Configuration
		var all []told
		err := s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
			i, err := tx.Instance(ctx, c.instance.ID)
			if err != nil {
				return err
			}
			c.instance = i
			if group == "" && i.ConfigurationID == "" {
				return nil
			}
			if g, before, err = s.groupsOf(ctx, tx, c, &i, group); err != nil || i.Stopped() {
				return err
			}
			all, err = s.beginTelling(ctx, tx, i.ID)
			return err
		})
		if err != nil || (group == "" && c.instance.ConfigurationID == "") {
			return err
		}
		if err = s.tell(ctx, all, g.Overrides()); err == nil && len(all) > 0 {
			err = all[0].err // here a guest that is away is an error, too
		}
		if err == nil {
			err = s.writeAttached(ctx, c, g, group, all)
		}
		if err != nil {
			s.tellBack(ctx, all, before.Overrides())
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("attach a configuration group: %w", err)
	}
	return nil
}

// groupsOf returns the group that an instance shall have and the one that it has; the zero value for none.
func (s *server) groupsOf(ctx context.Context, tx store.Tx, c *call, i *trove.Instance, group string) (next, before trove.Configuration, err error) {
	if err := checkGroup(i, group); err != nil {
		return next, before, err
	}
	if group == "" {
		if before, err = tx.Configuration(ctx, i.ConfigurationID); trove.IsNotFound(err) {
			err = nil
		}
		return next, before, err
	}
	if next, err = s.groupOf(ctx, tx, c, group); err != nil {
		return next, before, err
	}
	return next, before, sameVersion(&next, i.DatastoreVersionID)
}

// holdGroup makes sure that a group which an instance gets in this transaction is not changed or deleted by another one at the same time.
func holdGroup(ctx context.Context, tx store.Tx, id string) (trove.Configuration, error) {
	if err := tx.HoldConfiguration(ctx, id); err != nil {
		return trove.Configuration{}, noGroup(err, id)
	}
	return tx.Configuration(ctx, id)
}

// writeAttached writes that an instance has a group, or none. Conflict if the group has changed since its values were read.
func (s *server) writeAttached(ctx context.Context, c *call, g trove.Configuration, group string, all []told) error {
	return s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		if group != "" {
			now, err := holdGroup(ctx, tx, group)
			if err != nil {
				return err
			}
			if !maps.EqualFunc(now.Values, g.Values, sameValue) {
				return trove.Errorf(trove.KindConflict, "Configuration group %s was changed by another request just now. Try again.", group)
			}
		}
		change := func(i *trove.Instance) error {
			if i.ConfigurationID != c.instance.ConfigurationID || i.Stopped() != c.instance.Stopped() {
				return trove.Errorf(trove.KindConflict, "Instance %s was changed by another request just now. Try again.", i.ID)
			}
			if err := checkGroup(i, group); err != nil {
				return err
			}
			i.ConfigurationID = group
			return nil
		}
		if len(all) == 0 {
			return tx.UpdateInstance(ctx, c.instance.ID, s.cfg.Clock.Now(), change)
		}
		return s.followed(ctx, tx, all[0], change)
	})
}
