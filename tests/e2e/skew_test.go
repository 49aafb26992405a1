package e2e_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestVersionSkew runs instances whose agents are of the first release and of a later one under the present controllers, through the whole life of an
// instance. What an agent does not know is refused with a sentence that says what to do.
func TestVersionSkew(t *testing.T) {
	state := filepath.Join(repository, "var", "e2e-skew")
	d := &deployment{t: t, state: state, listen: freePort()}
	d.env = append(os.Environ(), "TROVE_CACHE="+cacheDir)
	t.Cleanup(func() { d.trove("dev", "destroy", "--state", state, "--force") })
	for _, kind := range []string{"first", "next"} {
		agent := build(t, "./cmd/trove-guestagent", "version=2.0.0", "-tags", "skew_"+kind)
		d.trove("image", "build", "--state", state, "--datastore", "mariadb", "--datastore-version", "10.11", "--agent", agent)
		if err := d.start(); err != nil {
			t.Fatal(err)
		}
		t.Run(kind, func(t *testing.T) {
			own := *d
			own.t = t
			own.wholeLife(t, kind)
		})
		d.trove("dev", "stop", "--state", state)
	}
}

// wholeLife is create, users, databases, root, restart, both resizes, stop, start, delete.
func (d *deployment) wholeLife(t *testing.T, kind string) {
	i := d.createKept("skew-" + kind)
	defer d.remove(i.ID)
	g := &guest{t: t, d: d.admin(), id: i.ID}
	db := open(t, i, "app", password, "app")
	mustExec(t, db, "CREATE TABLE t (a INT)")
	mustExec(t, db, "INSERT INTO t VALUES (42)")
	d.trove("database", "create", i.ID, "extra")
	if out, err := d.tryInput(password+"\n", "user", "create", i.ID, "web", "--database", "extra", "--password-file", "-"); err != nil {
		t.Fatal(err, out)
	}
	d.trove("user", "grant", i.ID, "web", "app")
	if got := queryString(t, open(t, i, "web", password, "app"), "SELECT a FROM t"); got != "42" {
		t.Errorf("the new user reads %q", got)
	}
	users := strings.Fields(d.trove("user", "list", i.ID, "-f", "value", "-c", "name"))
	if !slices.Contains(users, "app") || !slices.Contains(users, "web") {
		t.Errorf("the users are %v", users)
	}
	d.trove("user", "delete", i.ID, "web")
	d.trove("database", "delete", i.ID, "extra")
	d.trove("instance", "restart", i.ID, "--wait")
	d.trove("instance", "resize", "volume", i.ID, "2", "--wait")
	d.trove("instance", "resize", "flavor", i.ID, "db.small", "--wait")
	d.trove("instance", "stop", i.ID, "--wait")
	d.trove("instance", "start", i.ID, "--wait")
	i = d.instance(i.ID)
	if got := queryString(t, open(t, i, "app", password, "app"), "SELECT a FROM t"); got != "42" || i.Status != "ACTIVE" || i.Fault != nil {
		t.Errorf("after all the row is %q, the instance %s, %+v", got, i.Status, i.Fault)
	}
	if kind == "first" {
		key := filepath.Join(d.state, "keys", "agent-release")
		g.add(binary("trove-guestagent"), key, "2.1.0")
		g.refused("does not know the command \"upgrade-agent\": upgrade the agent first", "agent", "upgrade", i.ID)
	}
}
