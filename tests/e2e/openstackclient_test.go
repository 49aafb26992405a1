package e2e_test

import (
	"context"
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// openstack runs Debian's unmodified openstack client (python3-openstackclient with python3-troveclient's plugin). It is called by its path: the old
// client of Trove owns the name trove in /usr/bin.
func (d *deployment) openstack(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/usr/bin/openstack", args...)
	cmd.Env = d.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (d *deployment) mustOpenstack(args ...string) string {
	d.t.Helper()
	out, err := d.openstack(args...)
	if err != nil {
		d.t.Errorf("openstack %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// openstackJSON runs a command with -f json and returns what it printed.
func openstackJSON[T any](d *deployment, args ...string) T {
	d.t.Helper()
	var v T
	out := d.mustOpenstack(append(args, "-f", "json")...)
	if start := strings.IndexAny(out, "[{"); start >= 0 {
		out = out[start:] // warnings of Python modules come first
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		d.t.Errorf("openstack %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return v
}

// status waits until the openstack client shows the status.
func (d *deployment) openstackStatus(name, want string) map[string]any {
	d.t.Helper()
	var got map[string]any
	for end := time.Now().Add(patience); time.Now().Before(end); {
		got = openstackJSON[map[string]any](d, "database", "instance", "show", name)
		if got["status"] == want || d.t.Failed() {
			return got
		}
	}
	d.t.Errorf("%s: status %v, want %s", name, got["status"], want)
	return got
}

// TestOpenstackClient drives the service with the official client alone, as somebody does whose scripts were written for Trove.
func TestOpenstackClient(t *testing.T) {
	d := sharedDeployment(t)
	type table = []map[string]any
	// Other tests of the deployment may have built more images.
	named := func(name string) func(map[string]any) bool {
		return func(row map[string]any) bool { return row["Name"] == name }
	}
	if got := openstackJSON[table](d, "datastore", "list"); !slices.ContainsFunc(got, named("mariadb")) {
		t.Errorf("datastore list: %v", got)
	}
	if got := openstackJSON[table](d, "datastore", "version", "list", "mariadb"); !slices.ContainsFunc(got, named("10.11")) {
		t.Errorf("datastore version list: %v", got)
	}
	if got := openstackJSON[table](d, "database", "flavor", "list"); len(got) != 4 || got[0]["Name"] != "db.tiny" {
		t.Errorf("database flavor list: %v", got)
	}
	if got := d.mustOpenstack("database", "limit", "list"); !strings.Contains(got, "max_instances") && !strings.Contains(got, "Absolute") && !strings.Contains(got, "Value") {
		t.Errorf("database limit list: %s", got)
	}
	made := openstackJSON[map[string]any](d, "database", "instance", "create", "osc-1", "--flavor", "1", "--size", "1",
		"--datastore", "mariadb", "--datastore-version", "10.11", "--databases", "shop", "--users", "anna:"+password)
	id, ok := made["id"].(string)
	if !ok || made["status"] != "BUILD" {
		t.Fatalf("create: %v", made)
	}
	t.Cleanup(func() { d.remove(id) })
	shown := d.openstackStatus("osc-1", "ACTIVE")
	if shown["operating_status"] != "HEALTHY" {
		t.Errorf("operating status %v", shown["operating_status"])
	}
	if err := open(t, d.instance(id), "anna", password, "shop").PingContext(t.Context()); err != nil {
		t.Errorf("login: %v", err)
	}
	d.openstackContents(t)
	d.openstackActions(t, id)
}

func (d *deployment) openstackContents(t *testing.T) {
	type table = []map[string]any
	d.mustOpenstack("database", "db", "create", "osc-1", "second")
	if got := openstackJSON[table](d, "database", "db", "list", "osc-1"); len(got) != 2 {
		t.Errorf("db list: %v", got)
	}
	d.mustOpenstack("database", "user", "create", "osc-1", "bert", "bert-"+password, "--databases", "second")
	if got := openstackJSON[table](d, "database", "user", "list", "osc-1"); len(got) != 2 {
		t.Errorf("user list: %v", got)
	}
	d.mustOpenstack("database", "user", "grant", "access", "osc-1", "bert", "shop")
	if got := d.mustOpenstack("database", "user", "show", "access", "osc-1", "bert"); !strings.Contains(got, "shop") || !strings.Contains(got, "second") {
		t.Errorf("user show access: %s", got)
	}
	d.mustOpenstack("database", "user", "revoke", "access", "osc-1", "bert", "shop")
	if got := d.mustOpenstack("database", "user", "show", "osc-1", "bert"); !strings.Contains(got, "bert") {
		t.Errorf("user show: %s", got)
	}
	d.mustOpenstack("database", "user", "delete", "osc-1", "bert")
	d.mustOpenstack("database", "db", "delete", "osc-1", "second")
	if got := d.mustOpenstack("database", "root", "show", "osc-1"); !strings.Contains(got, "False") {
		t.Errorf("root show: %s", got)
	}
	root := openstackJSON[map[string]any](d, "database", "root", "enable", "osc-1")
	if root["name"] != "root" || root["password"] == "" {
		t.Errorf("root enable: %v", root["name"])
	}
	d.mustOpenstack("database", "root", "disable", "osc-1")
}

func (d *deployment) openstackActions(t *testing.T, id string) {
	type table = []map[string]any
	d.mustOpenstack("database", "instance", "restart", "osc-1")
	d.openstackStatus("osc-1", "ACTIVE")
	d.mustOpenstack("database", "instance", "resize", "volume", "osc-1", "2")
	d.openstackStatus("osc-1", "ACTIVE")
	d.mustOpenstack("database", "instance", "resize", "flavor", "osc-1", "2")
	d.openstackStatus("osc-1", "ACTIVE")
	if i := d.instance(id); i.Volume.Size != 2 || i.Flavor.ID != "2" {
		t.Errorf("after the resizes: %d GiB, flavor %s", i.Volume.Size, i.Flavor.ID)
	}
	found := false
	for _, row := range openstackJSON[table](d, "database", "instance", "list") {
		found = found || row["ID"] == id && row["Name"] == "osc-1"
	}
	if !found {
		t.Error("the instance is not in the list")
	}
	d.mustOpenstack("database", "instance", "delete", "osc-1")
	eventually(t, patience, "the instance to be gone from the list", func() bool {
		for _, row := range openstackJSON[table](d, "database", "instance", "list") {
			if row["ID"] == id {
				return false
			}
		}
		return true
	})
	if out, err := d.openstack("database", "instance", "show", "osc-1"); err == nil {
		t.Errorf("show of a deleted instance: %s", out)
	}
}
