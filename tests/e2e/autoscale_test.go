package e2e_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/api/wire"
)

// TestVolumeGrowsByItself: a volume that fills up is an alarm, and grows before it is full, while the database runs; its owner sees what happened. On the way his
// monitoring reads its figures with a token of its own, and he follows its log.
func TestVolumeGrowsByItself(t *testing.T) {
	d := sharedDeployment(t)
	i := d.create("grows-1")
	db := open(t, i, "app", password, "app")
	started := startOf(t, db)
	mustExec(t, db, "CREATE TABLE big (n INT PRIMARY KEY AUTO_INCREMENT, b LONGBLOB)")
	total := freeBytes(t, d.dataOf(i.ID))
	for freeBytes(t, d.dataOf(i.ID)) > total*12/100 {
		mustExec(t, db, "INSERT INTO big (b) VALUES (REPEAT('x', 4194304))")
	}
	eventually(t, patience, "the alarm", func() bool { return d.instance(i.ID).StorageAlarm == "high" })
	if text := d.trove("instance", "show", i.ID, "-f", "json"); !strings.Contains(text, `"storage_alarm": "high"`) {
		t.Errorf("instance show does not tell of the alarm: %s", text)
	}
	if d.instance(i.ID).Volume.Size != 1 {
		t.Fatal("it grew though nobody asked for it")
	}
	d.trove("instance", "autoscale", i.ID, "--threshold", "80", "--step", "1", "--max", "3")
	eventually(t, patience, "the volume to grow", func() bool { return d.instance(i.ID).Volume.Size == 2 && d.instance(i.ID).Status == "ACTIVE" })
	eventually(t, patience, "the alarm to end", func() bool { return d.instance(i.ID).StorageAlarm == "" })
	events := d.trove("instance", "events", i.ID, "-f", "value")
	for _, kind := range []string{"storage.high", "storage.grows", "storage.ok"} {
		if strings.Count(events, kind) != 1 {
			t.Errorf("%s is not there once:\n%s", kind, events)
		}
	}
	if now := startOf(t, db); now < started-1 || now > started+1 {
		t.Errorf("the server was restarted: it runs since %d, before since %d", now, started)
	}
	d.readsFigures(i)
}

// readsFigures scrapes an instance as Prometheus does, and looks at its log and at what was changed in it.
func (d *deployment) readsFigures(i wire.Instance) {
	t := d.t
	t.Helper()
	url := strings.TrimSpace(d.trove("instance", "scrape-token", "create", i.ID, "-f", "value", "-c", "url"))
	token := strings.TrimSpace(d.trove("instance", "scrape-token", "create", i.ID, "-f", "value", "-c", "token"))
	scrape := func() (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	if status, text := scrape(); status != http.StatusOK || !strings.Contains(text, "\ntrove_instance_up 1\n") {
		t.Errorf("scrape: %d %s", status, text)
	}
	d.trove("instance", "scrape-token", "revoke", i.ID)
	if status, text := scrape(); status != http.StatusUnauthorized {
		t.Errorf("a revoked token: %d %s", status, text)
	}
	if text := d.trove("log", "tail", i.ID, "error", "-n", "500"); !strings.Contains(text, "ready for connections") {
		t.Errorf("the end of the log is %q", text)
	}
	var root struct{ Password string }
	if err := json.Unmarshal([]byte(d.trove("root", "enable", i.ID, "-f", "json")), &root); err != nil {
		t.Fatal(err)
	}
	super := open(t, i, "root", root.Password, "")
	mustExec(t, super, "SET GLOBAL max_connections = 42")
	eventually(t, 30*time.Second, "the drift", func() bool {
		text := d.trove("configuration", "drift", i.ID, "-f", "csv")
		return strings.Contains(text, "max_connections,100,42")
	})
}
