package openstack_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus/natsbus"
	"github.com/trove-dbaas/trove/internal/machinedata"
	"github.com/trove-dbaas/trove/tests/openstack"
)

// stolenUserData shows that what stays for ever in Nova's database, on the config drive and at the metadata address opens nothing once the guest has used it.
func (st *story) stolenUserData() {
	st.t.Helper()
	ctx, cancel := context.WithTimeout(st.t.Context(), time.Minute)
	defer cancel()
	text, err := st.cloud.UserData(ctx, st.servers()[0].ID)
	if err != nil {
		st.t.Fatal(err)
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		st.t.Fatal(err)
	}
	if len(data) > 16<<10 {
		st.t.Errorf("the user data has %d bytes; Nova's config drive is meant for 16 KiB", len(data))
	}
	machine, err := machinedata.Parse(data)
	if err != nil || machine.Boot.Instance != st.id || machine.Boot.Token == "" {
		st.t.Fatalf("user data of instance %s: %v", machine.Boot.Instance, err)
	}
	// From this host, which reaches the port of the enrolment as a guest does.
	err = natsbus.Enrol(ctx, machine.Boot, st.t.TempDir())
	if trove.KindOf(err) != trove.KindConflict || !trove.IsPermanent(err) {
		st.t.Errorf("a second machine with the user data of the first: %v, want a refusal for good", err)
	}
	for _, name := range []string{"user-trove", "user-admin", "rabbit", "user-demo"} {
		if secret := labSecret(st.t, name); strings.Contains(string(data), secret) {
			st.t.Errorf("the user data has the lab's secret %s", name)
		}
	}
}

// foreigners shows that what belongs to another project cannot be named in a request, and that nothing is made of such a request.
func foreigners(t *testing.T, c *openstack.Cloud, s *service) {
	before := take(t, c)
	demo, other := as(t, "demo"), as(t, "other")
	network := fmt.Sprint(other.thing(t, "network", "show", "other-tenant")["id"])
	subnet := fmt.Sprint(other.thing(t, "subnet", "show", "other-tenant")["id"])
	flavor := flavor(t, demo, "db.tiny")
	for what, nic := range map[string]string{
		"network of another project": "net-id=" + network,
		"subnet of another project":  "subnet-id=" + subnet,
		"network that is not there":  "net-id=" + trove.NewID(),
	} {
		asked := s.cloudChanges()
		out, complaint, err := demo.try("database", "instance", "create", "foreign-"+unique, "--flavor", flavor, "--size", "1", "--datastore", "mariadb",
			"--datastore-version", "10.11", "--nic", nic)
		// It tells nobody whether another project has such a thing.
		if err == nil || !strings.Contains(complaint, " cannot be found: ") || !strings.Contains(complaint, "(HTTP 404)") {
			t.Errorf("create with a %s: %v, want that it is not found:\n%s%s", what, err, out, complaint)
		}
		if now := s.cloudChanges(); !slices.Equal(asked, now) {
			t.Errorf("create with a %s: the service asked the cloud for a change: before %q, after %q", what, asked, now)
		}
	}
	if rows := demo.table(t, "database", "instance", "list"); len(rows) != 0 {
		t.Errorf("instances after refused requests: %v", rows)
	}
	nothingLeft(t, c, before)
}

// labSecret is one of the passwords that the lab has made.
func labSecret(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(state, "secrets", name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}
