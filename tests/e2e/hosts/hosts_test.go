package hosts_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/client"
	"github.com/trove-dbaas/trove/internal/clock"
)

// TestTwoHosts runs a deployment on two hosts that share a database and the master key: both work, and one that is lost takes nothing with it that was
// accepted.
func TestTwoHosts(t *testing.T) {
	w := newWorld(t)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(w.logs())
		}
	})
	a, b := w.host(0), w.host(1)
	a.startAll()
	w.onlyMasterKey(a)
	master := filepath.Join("keys", "master.key")
	w.refused(b, "There is no master key") // before it was copied
	if err := os.WriteFile(filepath.Join(b.state, master), []byte("0a1b2c3d "+strings.Repeat("QUJD", 10)+"QUI=\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.refused(b, "does not open the keys of this deployment")
	key, err := os.ReadFile(filepath.Join(a.state, master))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.state, master), key, 0o600); err != nil {
		t.Fatal(err)
	}
	b.startAll()
	w.onlyMasterKey(b)
	atA, atB := a.client(a.password()), b.client(b.password())

	kept := w.bothWork(a, b, atA, atB)
	w.guestsKnow(kept, a, b)
	accepted := w.loseHost(a, atA, atB, kept)
	w.revokedWhileAway(a, b, accepted)
	b.startAll()
	w.restartInTurn([]*host{a, b}, []*client.Client{atA, atB})
	everything(t, atB, func(id string) error { return atB.DeleteInstance(t.Context(), id) }, "GONE")
	if left := w.cloud.Leftovers(); len(left) > 0 {
		t.Errorf("left in the cloud: %v", left)
	}
	if n, err := w.store.CountOpenOperations(t.Context()); n != 0 || err != nil {
		t.Errorf("%d operations are open, %v", n, err)
	}
}

// onlyMasterKey looks that a host keeps no other key.
func (w *world) onlyMasterKey(h *host) {
	w.t.Helper()
	entries, err := os.ReadDir(filepath.Join(h.state, "keys"))
	if err != nil || len(entries) != 1 || entries[0].Name() != "master.key" {
		w.t.Errorf("host %s keeps %v, %v", h.name, entries, err)
	}
}

// refused starts each controller of a host, which does not start and says why.
func (w *world) refused(h *host, sentence string) {
	w.t.Helper()
	for _, component := range []string{"taskmanager", "conductor", "api"} {
		cmd, err := h.begin(component)
		if err != nil {
			w.t.Fatal(err)
		}
		err = cmd.Wait()
		data, _ := os.ReadFile(h.log(component))
		if err == nil || !strings.Contains(string(data), sentence) {
			w.t.Fatalf("%s ended with %v and says\n%s", component, err, data)
		}
	}
}

// password is that of the account demo, from the file with which clients of the host log in.
func (h *host) password() string {
	data, err := os.ReadFile(filepath.Join(h.state, "openrc"))
	if err != nil {
		h.w.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "export OS_PASSWORD=")
	word, _, _ := strings.Cut(rest, "\n")
	return word
}

func spec(name string) wire.InstanceCreate {
	return wire.InstanceCreate{Name: name, FlavorRef: "1", Volume: &wire.VolumeCreate{Size: 1}, Datastore: &wire.DatastoreChoice{Type: "fake", Version: "1"}}
}

// create has a create accepted.
func create(t *testing.T, c *client.Client, name string) string {
	t.Helper()
	i, err := c.CreateInstance(t.Context(), spec(name))
	if err != nil {
		t.Fatalf("create %s: %v", name, err)
	}
	return i.ID
}

func active(t *testing.T, c *client.Client, ids ...string) {
	t.Helper()
	for _, id := range ids {
		eventually(t, "instance "+id+" to be ACTIVE", func() bool {
			i, err := c.Instance(t.Context(), id)
			if err == nil && i.Status == "ERROR" {
				t.Fatalf("instance %s is in ERROR: %+v", id, i.Fault)
			}
			return err == nil && i.Status == "ACTIVE"
		})
	}
}

// everything asks for something of all instances and waits for what becomes of them.
func everything(t *testing.T, c *client.Client, ask func(id string) error, status string) {
	t.Helper()
	var all []wire.Instance
	var marker string
	for first := true; first || marker != ""; first = false {
		page, next, err := c.Instances(t.Context(), client.ListOptions{Marker: marker})
		if err != nil {
			t.Fatal(err)
		}
		all, marker = append(all, page...), next
	}
	if len(all) == 0 {
		t.Error("there are no instances")
	}
	for _, i := range all {
		if err := ask(i.ID); err != nil {
			t.Errorf("%s: %v", i.ID, err)
		}
	}
	for _, i := range all {
		eventually(t, "instance "+i.ID+" to be "+status, func() bool {
			now, err := c.Instance(t.Context(), i.ID)
			return status == "GONE" && client.IsNotFound(err) || err == nil && now.Status == status
		})
	}
}

// bothWork creates instances through each api until each taskmanager has finished some, and sees them through the other api.
func (w *world) bothWork(a, b *host, atA, atB *client.Client) (ids []string) {
	w.t.Helper()
	worked := func(h *host) bool {
		data, _ := os.ReadFile(h.log("taskmanager"))
		return strings.Contains(string(data), "operation closed")
	}
	for n := 0; n < 4 || n < 20 && (!worked(a) || !worked(b)); n += 2 {
		first, second := create(w.t, atA, fmt.Sprint("a", n)), create(w.t, atB, fmt.Sprint("b", n))
		active(w.t, atB, first)
		active(w.t, atA, second)
		ids = append(ids, first, second)
	}
	if !worked(a) || !worked(b) {
		w.t.Errorf("one taskmanager did everything: a %v, b %v", worked(a), worked(b))
	}
	// A command to a guest goes over the broker that the guest is at, whichever api it comes from.
	for n, c := range []*client.Client{atA, atB} {
		for _, id := range ids[:2] {
			if err := c.CreateDatabases(w.t.Context(), id, wire.DatabaseCreate{Name: fmt.Sprint("d", n)}); err != nil {
				w.t.Errorf("a command through api %d: %v", n, err)
			}
		}
	}
	return ids
}

// guestsKnow waits until the guests were told of both brokers.
func (w *world) guestsKnow(ids []string, hosts ...*host) {
	w.t.Helper()
	for _, id := range ids {
		eventually(w.t, "guest "+id+" to know both brokers", func() bool {
			data, err := os.ReadFile(filepath.Join(w.dir, id[:8], "data", "trove", "identity", "credential.json"))
			var c bus.Credential
			if err != nil || json.Unmarshal(data, &c) != nil {
				return false
			}
			for _, h := range hosts {
				if !slices.Contains(c.Addresses, h.address+":4222") || !slices.Contains(c.EnrolURLs, "https://"+h.address+":4223") {
					return false
				}
			}
			return true
		})
	}
}

// loseHost has requests accepted by both hosts and kills one while they are carried out. It returns all instances that there are then.
func (w *world) loseHost(lost *host, atLost, atOther *client.Client, ids []string) []string {
	t := w.t
	t.Helper()
	for n := range 6 {
		ids = append(ids, create(t, atLost, fmt.Sprint("la", n)), create(t, atOther, fmt.Sprint("lb", n)))
	}
	if err := atLost.RestartInstance(t.Context(), ids[0]); err != nil {
		t.Fatal(err)
	}
	if err := atLost.DeleteInstance(t.Context(), ids[1]); err != nil {
		t.Fatal(err)
	}
	open, err := w.store.CountOpenOperations(t.Context())
	lost.cut() // nobody is told: no connection is closed
	lost.kill()
	killed := time.Now()
	if open == 0 || err != nil {
		t.Errorf("nothing was under way when the host was lost: %d, %v", open, err)
	}
	eventually(t, "the deleted instance to be gone", func() bool {
		_, err := atOther.Instance(t.Context(), ids[1])
		return client.IsNotFound(err)
	})
	ids = slices.Delete(ids, 1, 2)
	active(t, atOther, ids...)
	took := time.Since(killed)
	t.Logf("with %d operations open when a host was lost, all was done %s later", open, took.Round(100*time.Millisecond))
	if took > 50*time.Second {
		t.Errorf("what a lost host held, its leases, rows and connections, is free after 15 seconds, and all is done soon after; it took %s", took)
	}
	for _, id := range ids {
		eventually(t, "guest "+id+" to answer over the other broker", func() bool {
			_, err := atOther.Databases(t.Context(), id)
			return err == nil
		})
	}
	return ids
}

// restartInTurn restarts one host after the other, as an upgrade does, while a client that has both addresses and tries again lists and creates.
func (w *world) restartInTurn(hosts []*host, apis []*client.Client) {
	t := w.t
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	var mu sync.Mutex
	var ids []string
	requests := 0
	retrying := func(f func(c *client.Client) error) {
		var err error
		for n := range 4 {
			if err = f(apis[n%2]); err == nil || ctx.Err() != nil {
				mu.Lock()
				requests++
				mu.Unlock()
				return
			}
		}
		t.Errorf("a request failed at both hosts, twice: %v", err)
	}
	done.Go(func() {
		for clock.Sleep(ctx, 50*time.Millisecond) == nil {
			retrying(func(c *client.Client) error {
				_, _, err := c.Instances(ctx, client.ListOptions{})
				return err
			})
		}
	})
	done.Go(func() {
		for n := 0; clock.Sleep(ctx, time.Second) == nil; n++ {
			retrying(func(c *client.Client) error {
				i, err := c.CreateInstance(ctx, spec(fmt.Sprint("r", n)))
				if err == nil {
					mu.Lock()
					ids = append(ids, i.ID)
					mu.Unlock()
				}
				return err
			})
		}
	})
	for _, h := range hosts {
		h.stop()
		h.startAll()
	}
	stop()
	done.Wait()
	active(t, apis[0], ids...)
	if len(ids) < 2 {
		t.Errorf("only %d instances were created meanwhile", len(ids))
	}
	t.Logf("hosts restarted in turn: %d requests of a retrying client, %d instances created", requests, len(ids))
}

// revokedWhileAway revokes a guest while one host is away, and has the guest nowhere to go when that one is back and the other is lost.
func (w *world) revokedWhileAway(away, other *host, ids []string) {
	t := w.t
	t.Helper()
	out, stays := ids[0], ids[2]
	g, err := w.store.Guest(t.Context(), out)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if err := w.store.AddRevokedKey(t.Context(), out, g.PublicKey, now, now.Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	seen := func(id string) time.Time {
		i, err := w.store.Instance(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return i.Guest.SeenAt
	}
	// The time runs from the revocation: a guest whose own broker was lost may have been silent before it, and be heard of once more until its key is
	// looked up.
	cut, since := seen(out), now
	eventually(t, "the revoked guest to be cut off and not heard of", func() bool {
		if again := seen(out); !again.Equal(cut) {
			cut, since = again, time.Now()
		}
		return time.Since(since) > 15*time.Second
	})
	away.join()
	away.startAll()
	other.kill()
	back := time.Now()
	eventually(t, "another guest to be heard of over the broker that was away", func() bool { return seen(stays).After(back) })
	time.Sleep(15 * time.Second) // the revoked one goes on to try
	if again := seen(out); !again.Equal(cut) {
		t.Errorf("the revoked guest was heard of at %s, after it was cut off at %s", again, cut)
	}
	atAway := away.client(away.password())
	if _, err := atAway.Databases(t.Context(), stays); err != nil {
		t.Errorf("a command to a guest over the broker that was away: %v", err)
	}
	if _, err := atAway.Databases(t.Context(), out); err == nil {
		t.Error("the revoked guest answers")
	}
}
