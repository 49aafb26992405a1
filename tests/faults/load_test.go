package faults_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/tests/inmemory"
)

// load is what clients do while something is taken away.
type load struct {
	w      *world
	client *client.Client
	fixed  wire.Instance                     // lives all the time
	may    func(what string, err error) bool // which failures are in order; such a call is made again
	ctx    context.Context                   //nolint:containedctx // it ends the load
	stop   context.CancelFunc
	wg     sync.WaitGroup

	mu         sync.Mutex
	kept       []string          // instances that were accepted and not deleted
	gone       []string          // that were deleted
	groups     map[string]string // that were made and not deleted: name by id
	goneGroups []string
	calls      map[string]int
	failed     map[string]int
}

// client returns a client behind a balancer.
func (w *world) client(t *testing.T, addresses ...string) *client.Client {
	t.Helper()
	b := newBalancer(t, addresses)
	url := "http://" + b.listener.Addr().String()
	cfg := client.Config{AuthURL: url + "/identity/v3", Username: user, Password: login, Project: project, Region: inmemory.Region}
	for range 2 { // the catalogue names one API: the second client goes through the balancer all the time
		c, err := client.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if cfg.Endpoint != "" {
			return c
		}
		id, err := c.ProjectID(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		cfg.Endpoint = url + "/v1.0/" + id
	}
	return nil
}

// startLoad makes an instance and begins.
func (w *world) startLoad(t *testing.T, may func(string, error) bool) *load {
	t.Helper()
	l := &load{w: w, client: w.client(t, w.apis...), may: may, groups: map[string]string{}, calls: map[string]int{}, failed: map[string]int{}}
	l.ctx, l.stop = context.WithCancel(t.Context())
	fixed, err := l.client.CreateInstance(t.Context(), instanceNamed("fixed"))
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	l.fixed = fixed
	l.kept = append(l.kept, fixed.ID)
	w.eventually("the first instance to be ACTIVE", func() bool {
		i, err := w.store.Instance(t.Context(), fixed.ID)
		return err == nil && i.Status(false) == "ACTIVE" && i.Guest.Service == trove.ServiceHealthy
	})
	for n, work := range []func(worker string, n int) error{l.readThrough, l.makeInstances, l.makeInstances, l.changeGroups, l.useGuest, l.makeOthers} {
		l.wg.Go(func() {
			for k := 0; l.ctx.Err() == nil; k++ {
				if work(fmt.Sprint("w", n), k) != nil || clock.Sleep(l.ctx, 5*time.Millisecond) != nil {
					return
				}
			}
		})
	}
	return l
}

func instanceNamed(name string) wire.InstanceCreate {
	return wire.InstanceCreate{
		Name: name, FlavorRef: "1", Volume: &wire.VolumeCreate{Size: 1}, Databases: []wire.DatabaseCreate{{Name: "app"}},
		Users: []wire.UserCreate{{Name: "app", Password: "a password", Databases: []wire.Database{{Name: "app"}}}},
	}
}

func (w *world) eventually(what string, is func() bool) {
	w.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); _ = clock.Sleep(context.WithoutCancel(w.t.Context()), 20*time.Millisecond) {
		if is() {
			return
		}
	}
	w.t.Fatalf("waited %s for %s", patience, what)
}

// call makes a call until it succeeds. What fails otherwise than it may is an error of the test. Again: the attempt before may have done it.
func (l *load) call(what string, do func(ctx context.Context, again bool) error) error {
	for again := false; ; again = true {
		err := do(l.ctx, again)
		if l.ctx.Err() != nil {
			return l.ctx.Err()
		}
		l.mu.Lock()
		if l.calls[what]++; err != nil {
			l.failed[what]++
		}
		l.mu.Unlock()
		switch {
		case err == nil:
			return nil
		case l.may == nil || !l.may(what, err):
			l.w.t.Errorf("%s: %v", what, err)
			return err
		}
		if err := clock.Sleep(l.ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// once is call for what is done at most once: after a failure whose fate nobody knows the error of one that was done already is a success.
func (l *load) once(what, already string, do func(ctx context.Context) error) error {
	return l.call(what, func(ctx context.Context, again bool) error {
		err := do(ctx)
		if err != nil && again && strings.Contains(err.Error(), already) {
			return nil
		}
		return err
	})
}

func (l *load) readThrough(string, int) error {
	err := l.call("list", func(ctx context.Context, _ bool) error {
		_, _, err := l.client.Instances(ctx, client.ListOptions{Limit: 20})
		return err
	})
	if err == nil {
		err = l.call("show", func(ctx context.Context, _ bool) error { _, err := l.client.Instance(ctx, l.fixed.ID); return err })
	}
	return err
}

// makeInstances makes an instance, waits for it by long polls, and deletes two of three.
func (l *load) makeInstances(worker string, n int) error {
	var i wire.Instance
	var op string
	name := fmt.Sprint(worker, "-", n)
	err := l.call("create", func(ctx context.Context, _ bool) (err error) {
		i, err = l.client.CreateInstance(client.WithKey(client.Began(ctx, &op), name), instanceNamed(name))
		return err
	})
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.kept = append(l.kept, i.ID)
	l.mu.Unlock()
	for o := (wire.Operation{State: "open"}); o.State == "open"; {
		err := l.call("long poll", func(ctx context.Context, _ bool) (err error) {
			o, err = l.client.Operation(ctx, i.ID, op, o.Version, 5*time.Second)
			return err
		})
		if err != nil {
			return err
		}
		if o.State != "open" && o.State != "done" {
			l.w.t.Errorf("the creation of %s ended as %s: %s", name, o.State, o.Error)
			return errors.New(o.Error)
		}
	}
	if n%3 == 0 {
		return nil
	}
	if err := l.once("delete", "cannot be found", func(ctx context.Context) error { return l.client.DeleteInstance(ctx, i.ID) }); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = slices.DeleteFunc(l.kept, func(id string) bool { return id == i.ID })
	l.gone = append(l.gone, i.ID)
	return nil
}

// changeGroups makes a group, gives it to the instance, changes it there and takes it back.
func (l *load) changeGroups(worker string, n int) error {
	var g wire.ConfigurationGroup
	name := fmt.Sprint(worker, "-group-", n)
	err := l.call("create group", func(ctx context.Context, _ bool) (err error) {
		g, err = l.client.CreateConfiguration(client.WithKey(ctx, name), wire.ConfigurationCreate{Name: name, Values: map[string]any{inmemory.Parameter: 1 + n%400}})
		return err
	})
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.groups[g.ID] = name
	l.mu.Unlock()
	steps := []func() error{
		func() error {
			return l.once("attach", "already has a Configuration Group", func(ctx context.Context) error { return l.client.AttachConfiguration(ctx, l.fixed.ID, g.ID) })
		},
		func() error {
			return l.call("patch group", func(ctx context.Context, _ bool) error {
				return l.client.MergeConfiguration(ctx, g.ID, map[string]any{inmemory.Parameter: 500 + n%400})
			})
		},
		func() error {
			return l.call("detach", func(ctx context.Context, _ bool) error { return l.client.DetachConfiguration(ctx, l.fixed.ID) })
		},
	}
	if n%3 != 0 {
		steps = append(steps, func() error {
			l.mu.Lock()
			delete(l.groups, g.ID) // the load may end before the answer comes
			l.mu.Unlock()
			return l.once("delete group", "could not be found", func(ctx context.Context) error { return l.client.DeleteConfiguration(ctx, g.ID) })
		}, func() error {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.goneGroups = append(l.goneGroups, g.ID)
			return nil
		})
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// useGuest makes a database and a user in the instance, and looks that they are there.
func (l *load) useGuest(worker string, n int) error {
	name := fmt.Sprint(worker, "_", n)
	err := l.call("create database", func(ctx context.Context, _ bool) error {
		return l.client.CreateDatabases(client.WithKey(ctx, name+"-d"), l.fixed.ID, wire.DatabaseCreate{Name: name})
	})
	if err == nil {
		err = l.call("create user", func(ctx context.Context, _ bool) error {
			return l.client.CreateUsers(client.WithKey(ctx, name+"-u"), l.fixed.ID, wire.UserCreate{Name: name, Password: "a password", Databases: []wire.Database{{Name: name}}})
		})
	}
	if err == nil {
		err = l.call("show user", func(ctx context.Context, _ bool) error {
			u, err := l.client.User(ctx, l.fixed.ID, name, "%")
			if err == nil && (len(u.Databases) != 1 || u.Databases[0].Name != name) {
				err = fmt.Errorf("user %s has %v", name, u.Databases)
			}
			return err
		})
	}
	if err == nil {
		err = l.once("delete user", "cannot be found", func(ctx context.Context) error { return l.client.DeleteUser(ctx, l.fixed.ID, name, "%") })
	}
	if err == nil {
		err = l.once("delete database", "cannot be found", func(ctx context.Context) error { return l.client.DeleteDatabase(ctx, l.fixed.ID, name) })
	}
	return err
}

// makeOthers makes what is in the store alone.
func (l *load) makeOthers(worker string, n int) error {
	name := fmt.Sprint(worker, "-", n)
	err := l.call("create strategy", func(ctx context.Context, _ bool) error {
		_, err := l.client.CreateBackupStrategy(client.WithKey(ctx, name+"-s"), l.fixed.ID, name)
		return err
	})
	var m wire.Module
	if err == nil {
		err = l.call("create module", func(ctx context.Context, _ bool) (err error) {
			m, err = l.client.CreateModule(client.WithKey(ctx, name+"-m"), wire.ModuleChange{Name: name, Type: "ping", Contents: "bWVzc2FnZT1oaQ=="})
			return err
		})
	}
	if err == nil {
		err = l.once("delete module", "could not be found", func(ctx context.Context) error { return l.client.DeleteModule(ctx, m.ID) })
	}
	if err == nil {
		err = l.call("clusters", func(ctx context.Context, _ bool) error { _, err := l.client.Clusters(ctx); return err })
	}
	return err
}

// succeeded returns how often each call succeeded so far.
func (l *load) succeeded() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[string]int{}
	for what, n := range l.calls {
		all[what] = n - l.failed[what]
	}
	return all
}

// goesOn waits until each kind of call that succeeded before succeeds again.
func (l *load) goesOn(before map[string]int) {
	l.w.t.Helper()
	var waiting []string
	for end := time.Now().Add(patience); time.Now().Before(end); _ = clock.Sleep(context.WithoutCancel(l.w.t.Context()), 20*time.Millisecond) {
		now := l.succeeded()
		waiting = waiting[:0]
		for what, n := range before {
			if now[what] <= n {
				waiting = append(waiting, what)
			}
		}
		if len(waiting) == 0 {
			return
		}
	}
	l.w.t.Fatalf("waited %s for calls to succeed again: %q", patience, waiting)
}

// failures returns how often calls failed as they may.
func (l *load) failures() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, times := range l.failed {
		n += times
	}
	return n
}

// check ends the load and sees that nothing that was accepted is lost or there twice.
func (l *load) check(t *testing.T) {
	t.Helper()
	l.stop()
	l.wg.Wait()
	t.Logf("calls: %v; failed as they may: %v", l.calls, l.failed)
	ctx := context.WithoutCancel(t.Context())
	w := l.w
	w.eventually("all operations to end", func() bool {
		n, err := w.store.CountOpenOperations(ctx)
		return err == nil && n == 0
	})
	for _, id := range l.gone {
		if _, err := w.store.Instance(ctx, id); !trove.IsNotFound(err) {
			t.Errorf("instance %s, whose deletion was accepted: %v", id, err)
		}
	}
	all, err := w.store.Instances(ctx, store.InstanceFilter{})
	if err != nil {
		t.Fatal(err)
	}
	byID, names := map[string]trove.Instance{}, map[string]int{}
	for _, i := range all {
		byID[i.ID] = i
		if names[i.Name]++; names[i.Name] > 1 {
			t.Errorf("%d instances are named %s", names[i.Name], i.Name)
		}
		if status := i.Status(false); status != "ACTIVE" {
			t.Errorf("instance %s is %s: %+v", i.Name, status, i.Fault)
		}
	}
	for _, id := range l.kept {
		if _, ok := byID[id]; !ok {
			t.Errorf("instance %s was accepted and is not there", id)
		}
	}
	for _, thing := range w.cloud.Leftovers() {
		if !slices.ContainsFunc(all, func(i trove.Instance) bool { return strings.Contains(thing, i.ID) }) {
			t.Errorf("left in the cloud: %s", thing)
		}
	}
	l.checkRows(ctx, t, all)
}

func (l *load) checkRows(ctx context.Context, t *testing.T, all []trove.Instance) {
	t.Helper()
	quotas, err := l.w.store.Quotas(ctx, all[0].ProjectID)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range quotas {
		if q.Resource == trove.QuotaInstances && q.InUse != len(all) {
			t.Errorf("%d instances are counted, %d are there", q.InUse, len(all))
		}
	}
	groups, err := l.w.store.Configurations(ctx, store.ConfigurationFilter{})
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]int{}
	for _, g := range groups {
		if slices.Contains(l.goneGroups, g.ID) {
			t.Errorf("group %s, whose deletion was accepted, is there", g.Name)
		}
		if names[g.Name]++; names[g.Name] > 1 {
			t.Errorf("%d groups are named %s", names[g.Name], g.Name)
		}
	}
	for id, name := range l.groups {
		if names[name] != 1 {
			t.Errorf("group %s, %s, was accepted and is there %d times", name, id, names[name])
		}
	}
}

// countGroups returns how many groups have names that begin so.
func countGroups(t *testing.T, w *world, prefix string) (n int) {
	t.Helper()
	groups, err := w.store.Configurations(context.WithoutCancel(t.Context()), store.ConfigurationFilter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		if strings.HasPrefix(g.Name, prefix) {
			n++
		}
	}
	return n
}
