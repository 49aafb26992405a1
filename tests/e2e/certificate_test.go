package e2e_test

import (
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/trove-dbaas/trove/api/wire"
)

// verifying opens a database as a client does that believes the authorities alone.
func verifying(t *testing.T, i wire.Instance, authorities string) *sql.DB {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(authorities)) {
		t.Fatalf("no authorities: %q", authorities)
	}
	c := mysql.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr, c.DBName, c.Logger = "app", password, "tcp", i.Addresses[0].Address+":3306", "app", &mysql.NopLogger{}
	c.TLS = &tls.Config{RootCAs: roots, ServerName: i.Addresses[0].Address}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// TestCertificateOfTheDeployment: a client that has the authorities can tell its database from any other from the first login on, over a restart and a reboot, and
// while the authority is replaced, during which a connection that is open goes on.
func TestCertificateOfTheDeployment(t *testing.T) {
	d := sharedDeployment(t)
	i, other := d.create("certificate-1"), d.create("certificate-2")
	before := d.trove("ssl", "ca", i.ID)
	held := verifying(t, i, before)
	held.SetMaxOpenConns(1)
	id := queryString(t, held, "SELECT CONNECTION_ID()")
	if err := verifying(t, other, before).PingContext(t.Context()); err != nil {
		t.Errorf("another database of the deployment: %v", err)
	}
	if same := d.trove("ssl", "ca", other.ID); same != before {
		t.Error("another database has other authorities")
	}
	shown := d.trove("ssl", "show", i.ID, "-c", "san", "-f", "value")
	for _, name := range []string{i.ID, i.Addresses[0].Address} {
		if !strings.Contains(shown, name) {
			t.Errorf("%s does not name %s", shown, name)
		}
	}

	d.admin().manage(t, "database-ca", "roll")
	var after string
	eventually(t, 60*time.Second, "the database to show a certificate of the new authority", func() bool {
		after = d.trove("ssl", "ca", i.ID)
		block, _ := pem.Decode([]byte(after))
		return verifying(t, i, string(pem.EncodeToMemory(block))).PingContext(t.Context()) == nil
	})
	if after == before {
		t.Error("the authorities are still the same")
	}
	if err := verifying(t, i, before).PingContext(t.Context()); err != nil {
		t.Errorf("a client that knows the old authority alone: %v", err)
	}
	if now := queryString(t, held, "SELECT CONNECTION_ID()"); now != id {
		t.Errorf("the open connection was ended: %s, before %s", now, id)
	}
	for _, action := range []string{"instance restart", "mgmt reboot"} {
		d.admin().trove(append(strings.Fields(action), i.ID, "--wait")...)
		if err := verifying(t, i, after).PingContext(t.Context()); err != nil {
			t.Errorf("after %s: %v", action, err)
		}
	}
	if out := d.admin().manage(t, "database-ca", "status"); strings.Count(out, "\n") < 2 || strings.Count(out, ", signs") != 1 {
		t.Errorf("status:\n%s", out)
	}
}
