package compat_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/db/v1/configurations"
	"github.com/gophercloud/gophercloud/v2/openstack/db/v1/databases"
	"github.com/gophercloud/gophercloud/v2/openstack/db/v1/datastores"
	"github.com/gophercloud/gophercloud/v2/openstack/db/v1/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/db/v1/instances"
	"github.com/gophercloud/gophercloud/v2/openstack/db/v1/users"
	"github.com/gophercloud/gophercloud/v2/pagination"
)

// step is a row whose command is a Go function. What it returns is the output.
type step struct {
	row
	do func(ctx context.Context) (any, error)
}

// runSteps runs steps as the rows of a client.
func (s *suite) runSteps(t *testing.T, steps []step) {
	t.Helper()
	for _, one := range steps {
		s.call = func(t *testing.T, _ []string, _ bool) result {
			t.Helper()
			v, err := one.do(t.Context())
			if err != nil {
				return result{1, err.Error()}
			}
			text, err := json.Marshal(v)
			if err != nil {
				return result{1, err.Error()}
			}
			return result{0, string(text)}
		}
		s.run(t, []row{one.row})
	}
}

// methods returns the functions that gophercloud's packages have to ask the service, as "package.Function".
func methods(t *testing.T) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/gophercloud/gophercloud/v2").Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "openstack", "db", "v1", "*", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.IsExported() && asks(f) {
				all = append(all, file.Name.Name+"."+f.Name.Name)
			}
		}
	}
	if len(all) < 30 {
		t.Fatalf("only %d functions: %v", len(all), all)
	}
	return all
}

// asks says whether a function takes a client.
func asks(f *ast.FuncDecl) bool {
	for _, p := range f.Type.Params.List {
		if star, ok := p.Type.(*ast.StarExpr); ok {
			if sel, ok := star.X.(*ast.SelectorExpr); ok && sel.Sel.Name == "ServiceClient" {
				return true
			}
		}
	}
	return false
}

// listed reads all pages of a list.
func listed[T any](ctx context.Context, pager pagination.Pager, extract func(pagination.Page) ([]T, error)) ([]T, error) {
	pages, err := pager.AllPages(ctx)
	if err != nil {
		return nil, err
	}
	return extract(pages)
}

// done is the value of a call that returns none.
func done(err error) (any, error) { return "done", err }

// many are more names than one page has.
const many = 25

// TestGophercloud calls every function of gophercloud's packages.
func TestGophercloud(t *testing.T) {
	s := startServer(t)
	g := &gopher{suite: newSuite(s, readExpectations(t), "gophercloud", "gophercloud v2", "g"), c: s.client(t, s.member)}
	var steps []step
	for _, part := range [][]step{g.catalogue(), g.instances(), g.contents(), g.configurations(), g.changes()} {
		steps = append(steps, part...)
	}
	rows := make([]row, 0, len(steps))
	for _, one := range steps {
		rows = append(rows, one.row)
	}
	g.suite.covers(t, methods(t), rows)
	g.suite.runSteps(t, steps)
	g.suite.report(t)
}

type gopher struct {
	suite *suite
	c     *gophercloud.ServiceClient
}

// id returns what is known under a name.
func (g *gopher) id(name string) string { return g.suite.expand("$" + name) }

func (g *gopher) catalogue() []step {
	ds, version := g.id("datastore"), g.id("versionid")
	return []step{
		{row{cmd: "datastores.List", prints: "$datastore"}, func(ctx context.Context) (any, error) {
			return listed(ctx, datastores.List(g.c), datastores.ExtractDatastores)
		}},
		{row{cmd: "datastores.Get", prints: "$version"}, func(ctx context.Context) (any, error) { return datastores.Get(ctx, g.c, ds).Extract() }},
		{row{cmd: "datastores.ListVersions", prints: "$versionid"}, func(ctx context.Context) (any, error) {
			return listed(ctx, datastores.ListVersions(g.c, ds), datastores.ExtractVersions)
		}},
		{row{cmd: "datastores.GetVersion", prints: "$version"}, func(ctx context.Context) (any, error) {
			return datastores.GetVersion(ctx, g.c, ds, version).Extract()
		}},
		{row{cmd: "flavors.List", prints: `"id":1,.*db.tiny.*"str_id":"1"`}, func(ctx context.Context) (any, error) {
			return listed(ctx, flavors.List(g.c), flavors.ExtractFlavors)
		}},
		{row{cmd: "flavors.Get", prints: "db.tiny"}, func(ctx context.Context) (any, error) { return flavors.Get(ctx, g.c, "1").Extract() }},
	}
}

func (g *gopher) instances() []step {
	return []step{
		{row{cmd: "instances.Create", prints: `"Status":"BUILD"`, until: "$one ACTIVE"}, func(ctx context.Context) (any, error) {
			i, err := instances.Create(ctx, g.c, instances.CreateOpts{
				Name: "g-1", FlavorRef: "1", Size: 1, Datastore: &instances.DatastoreOpts{Type: g.id("datastore"), Version: g.id("version")},
				Databases: databases.BatchCreateOpts{{Name: "shop"}},
				Users:     users.BatchCreateOpts{{Name: "anna", Password: g.id("password"), Databases: databases.BatchCreateOpts{{Name: "shop"}}}},
			}).Extract()
			if err == nil {
				g.suite.known["one"] = i.ID
			}
			return i, err
		}},
		{row{cmd: "instances.List", prints: `"Name":"g-1"`}, func(ctx context.Context) (any, error) {
			return listed(ctx, instances.List(g.c), instances.ExtractInstances)
		}},
		{row{cmd: "instances.Get", prints: `"IP":\["[0-9.]+"\].*"Status":"ACTIVE"`}, func(ctx context.Context) (any, error) {
			return instances.Get(ctx, g.c, g.id("one")).Extract()
		}},
		{row{cmd: "instances.Get of one that is not there", fails: "404"}, func(ctx context.Context) (any, error) {
			return instances.Get(ctx, g.c, g.id("absent")).Extract()
		}},
		{row{cmd: "instances.IsRootEnabled", prints: "false"}, func(ctx context.Context) (any, error) {
			return instances.IsRootEnabled(ctx, g.c, g.id("one")).Extract()
		}},
		{row{cmd: "instances.EnableRootUser", prints: `"Name":"root"`}, func(ctx context.Context) (any, error) {
			return instances.EnableRootUser(ctx, g.c, g.id("one")).Extract()
		}},
		{row{cmd: "instances.IsRootEnabled afterwards", prints: "true"}, func(ctx context.Context) (any, error) {
			return instances.IsRootEnabled(ctx, g.c, g.id("one")).Extract()
		}},
	}
}

// contents has more databases and users than a page: Trove's own links are not those that gophercloud follows (trap 7).
func (g *gopher) contents() []step {
	var dbs databases.BatchCreateOpts
	var people users.BatchCreateOpts
	for n := range many {
		dbs = append(dbs, databases.CreateOpts{Name: fmt.Sprintf("db%02d", n)})
		people = append(people, users.CreateOpts{Name: fmt.Sprintf("user%02d", n), Password: g.id("password"), Databases: databases.BatchCreateOpts{{Name: "shop"}}})
	}
	return []step{
		{row{cmd: "databases.Create"}, func(ctx context.Context) (any, error) {
			return done(databases.Create(ctx, g.c, g.id("one"), dbs).ExtractErr())
		}},
		{row{cmd: "databases.List of 26", prints: "^26$"}, func(ctx context.Context) (any, error) {
			all, err := listed(ctx, databases.List(g.c, g.id("one")), databases.ExtractDBs)
			return len(all), err
		}},
		{row{cmd: "users.Create"}, func(ctx context.Context) (any, error) {
			return done(users.Create(ctx, g.c, g.id("one"), people).ExtractErr())
		}},
		{row{cmd: "users.List of 26", prints: "^26$"}, func(ctx context.Context) (any, error) {
			all, err := listed(ctx, users.List(g.c, g.id("one")), users.ExtractUsers)
			for _, u := range all {
				if len(u.Databases) != 1 {
					err = errors.Join(err, fmt.Errorf("%s has %d databases", u.Name, len(u.Databases)))
				}
			}
			return len(all), err
		}},
		{row{cmd: "users.Delete"}, func(ctx context.Context) (any, error) {
			return done(users.Delete(ctx, g.c, g.id("one"), "user00").ExtractErr())
		}},
		{row{cmd: "databases.Delete"}, func(ctx context.Context) (any, error) {
			return done(databases.Delete(ctx, g.c, g.id("one"), "db00").ExtractErr())
		}},
	}
}

func (g *gopher) configurations() []step {
	name, ds, version := g.id("parameter"), g.id("datastore"), g.id("versionid")
	return []step{
		{row{cmd: "configurations.Create", prints: `111`}, func(ctx context.Context) (any, error) {
			c, err := configurations.Create(ctx, g.c, configurations.CreateOpts{
				Name: "g-c", Values: map[string]any{name: 111}, Datastore: &configurations.DatastoreOpts{Type: ds, Version: g.id("version")},
			}).Extract()
			if err == nil {
				g.suite.known["group"] = c.ID
			}
			return c, err
		}},
		{row{cmd: "configurations.List", prints: "g-c"}, func(ctx context.Context) (any, error) {
			return listed(ctx, configurations.List(g.c), configurations.ExtractConfigs)
		}},
		{row{cmd: "configurations.Get", prints: "111"}, func(ctx context.Context) (any, error) {
			return configurations.Get(ctx, g.c, g.id("group")).Extract()
		}},
		{row{cmd: "configurations.Update"}, func(ctx context.Context) (any, error) {
			return done(configurations.Update(ctx, g.c, g.id("group"), configurations.UpdateOpts{Values: map[string]any{name: 112}}).ExtractErr())
		}},
		{row{cmd: "configurations.Replace"}, func(ctx context.Context) (any, error) {
			return done(configurations.Replace(ctx, g.c, g.id("group"), configurations.UpdateOpts{Name: "g-c", Values: map[string]any{name: 113}}).ExtractErr())
		}},
		{row{cmd: "instances.AttachConfigurationGroup", until: "$one ACTIVE"}, func(ctx context.Context) (any, error) {
			return done(instances.AttachConfigurationGroup(ctx, g.c, g.id("one"), g.id("group")).ExtractErr())
		}},
		{row{cmd: "configurations.ListInstances", prints: "g-1"}, func(ctx context.Context) (any, error) {
			return listed(ctx, configurations.ListInstances(g.c, g.id("group")), instances.ExtractInstances)
		}},
		{row{cmd: "configurations.ListDatastoreParams", prints: "$parameter"}, func(ctx context.Context) (any, error) {
			return listed(ctx, configurations.ListDatastoreParams(g.c, ds, version), configurations.ExtractParams)
		}},
		{row{cmd: "configurations.GetDatastoreParam", prints: "integer"}, func(ctx context.Context) (any, error) {
			return configurations.GetDatastoreParam(ctx, g.c, ds, version, name).Extract()
		}},
		{row{cmd: "configurations.ListGlobalParams", prints: "$parameter"}, func(ctx context.Context) (any, error) {
			return listed(ctx, configurations.ListGlobalParams(g.c, version), configurations.ExtractParams)
		}},
		{row{cmd: "configurations.GetGlobalParam", prints: "integer"}, func(ctx context.Context) (any, error) {
			return configurations.GetGlobalParam(ctx, g.c, version, name).Extract()
		}},
		// The body is {"instance": {}} (trap 9).
		{row{cmd: "instances.DetachConfigurationGroup", until: "$one ACTIVE"}, func(ctx context.Context) (any, error) {
			return done(instances.DetachConfigurationGroup(ctx, g.c, g.id("one")).ExtractErr())
		}},
		{row{cmd: "configurations.Delete"}, func(ctx context.Context) (any, error) {
			return done(configurations.Delete(ctx, g.c, g.id("group")).ExtractErr())
		}},
	}
}

func (g *gopher) changes() []step {
	return []step{
		{row{cmd: "instances.Restart", until: "$one ACTIVE"}, func(ctx context.Context) (any, error) {
			return done(instances.Restart(ctx, g.c, g.id("one")).ExtractErr())
		}},
		{row{cmd: "instances.Resize", until: "$one ACTIVE"}, func(ctx context.Context) (any, error) {
			return done(instances.Resize(ctx, g.c, g.id("one"), "2").ExtractErr())
		}},
		{row{cmd: "instances.ResizeVolume", until: "$one ACTIVE"}, func(ctx context.Context) (any, error) {
			return done(instances.ResizeVolume(ctx, g.c, g.id("one"), 2).ExtractErr())
		}},
		{row{cmd: "instances.Get after the resizes", prints: `"ID":"2".*"Size":2`}, func(ctx context.Context) (any, error) {
			return instances.Get(ctx, g.c, g.id("one")).Extract()
		}},
		{row{cmd: "instances.Delete", until: "$one gone"}, func(ctx context.Context) (any, error) {
			return done(instances.Delete(ctx, g.c, g.id("one")).ExtractErr())
		}},
	}
}
