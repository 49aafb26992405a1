package crashwalk_test

import (
	"bufio"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/tests/boundaries"
	deploy "github.com/trove-dbaas/trove/tests/deployment"
)

// The versions of the instance that is upgraded. It is a Redis because that starts in no time, and an upgrade here is met at some 70 boundaries.
const (
	walkDatastore = "redis"
	oldVersion    = "7"
	newVersion    = "8"
)

// ofUpgrades are the operations that TestCrashWalkOfUpgrades asks for: each needs another state of the instance.
var ofUpgrades = []string{trove.OpUpgrade, trove.OpUpgradeRollback, trove.OpUpgradeConfirm}

// upgraded is an instance on its way there and back.
type upgraded struct {
	*walker

	id    string
	count int
	views map[string]view // of the host, by the instance's version
}

// TestCrashWalkOfUpgrades meets every boundary of an upgrade, of the way back and of the confirmation. A value that was written before the upgrade is there
// after each.
func TestCrashWalkOfUpgrades(t *testing.T) {
	steps, _ := readSteps(t)
	w := newWalker(t, [2]string{walkDatastore, oldVersion}, [2]string{walkDatastore, newVersion})
	began, empty := time.Now(), w.look()
	u := w.newUpgraded("walk-upgrade")
	ups, backs := there(trove.OpUpgrade, steps), there(trove.OpUpgradeRollback, steps)
	for n := range max(len(ups), len(backs)) { // one after the other, the last of the shorter row again
		u.meet(ups[min(n, len(ups)-1)], newVersion)
		u.meet(backs[min(n, len(backs)-1)], oldVersion)
	}
	for _, l := range undone(trove.OpUpgrade, steps) {
		u.meet(l, oldVersion)
	}
	// Once the kept data is in its place there is no way forward again: what is undone then leaves the old version serving.
	for _, l := range undone(trove.OpUpgradeRollback, steps) {
		u.upgrade()
		u.meet(l, oldVersion)
	}
	u.upgrade()
	for _, l := range undone(trove.OpUpgradeConfirm, steps) {
		u.meet(l, newVersion)
	}
	for n, l := range there(trove.OpUpgradeConfirm, steps) {
		if n > 0 {
			w.Remove(u.id)
			u = w.newUpgraded(fmt.Sprintf("walk-confirm-%d", n))
			u.upgrade()
		}
		u.meet(l, newVersion)
		if kept, err := w.Client.Upgrade(t.Context(), u.id, ""); err != nil || kept.Kept != nil {
			t.Errorf("%s: after it was confirmed the upgrade keeps %+v, %v", l.at, kept, err)
		}
	}
	w.Remove(u.id)
	w.same("in the end", empty)
	w.sum(began)
}

// there are the crashes of an operation that is finished, and undone those of one that is taken back.
func there(kind string, steps map[string]boundaries.Steps) []leg {
	return slices.DeleteFunc(legs(steps[kind]), func(l leg) bool { return l.fail != "" })
}

func undone(kind string, steps map[string]boundaries.Steps) []leg {
	return slices.DeleteFunc(legs(steps[kind]), func(l leg) bool { return l.fail == "" })
}

func (w *walker) newUpgraded(name string) *upgraded {
	w.t.Helper()
	i, err := w.Client.CreateInstance(w.t.Context(), wire.InstanceCreate{
		Name: name, FlavorRef: "1", Volume: &wire.VolumeCreate{Size: 1}, Datastore: &wire.DatastoreChoice{Type: walkDatastore, Version: oldVersion},
		Users: []wire.UserCreate{{Name: "app", Password: deploy.Password}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	deploy.Eventually(w.t, limit, "the instance to be there", func() bool {
		now := w.Instance(i.ID)
		return now.Status == "ACTIVE" && now.OperatingStatus == "HEALTHY"
	})
	return &upgraded{walker: w, id: i.ID, views: map[string]view{oldVersion: w.settled()}}
}

// upgrade goes to the new version without a crash.
func (u *upgraded) upgrade() {
	u.t.Helper()
	u.write(u.value())
	if err := asks[trove.OpUpgrade](u.walker, u.Instance(u.id)); err != nil {
		u.t.Fatal(err)
	}
	deploy.Eventually(u.t, limit, "the upgrade", func() bool {
		i := u.Instance(u.id)
		return i.Status == "ACTIVE" && *i.Datastore.Version == newVersion
	})
	u.serves("an upgrade", newVersion)
}

// meet meets one crash, and checks which version serves, and what.
func (u *upgraded) meet(l leg, version string) {
	u.t.Helper()
	switch l.kind {
	case trove.OpUpgrade:
		u.count++
		u.write(u.value())
	case trove.OpUpgradeRollback:
		u.write("written since")
	}
	u.kept(u.id, l)
	u.serves(l.at, version)
}

func (u *upgraded) value() string { return fmt.Sprintf("before-%d", u.count) }

// serves checks the version that the API says and the one that answers, the value, and the host.
func (u *upgraded) serves(at, version string) {
	u.t.Helper()
	i := u.Instance(u.id)
	if *i.Datastore.Version != version {
		u.t.Fatalf("%s: the instance has version %s, want %s; its fault is %+v", at, *i.Datastore.Version, version, i.Fault)
	}
	var said []string
	deploy.Eventually(u.t, limit, at+": the database to answer", func() bool {
		var err error
		said, err = ask(i, "GET walk", "INFO server")
		return err == nil
	})
	if said[0] != u.value() || !strings.Contains(said[1], "redis_version:"+version+".") {
		u.t.Errorf("%s: the value is %q, want %q; the server says\n%s", at, said[0], u.value(), said[1])
	}
	if _, seen := u.views[version]; !seen {
		u.views[version] = u.settled()
	}
	u.sameOnHost(at, u.views[version])
}

// settled is what the host has when nothing ends in the background any more.
func (w *walker) settled() view {
	w.t.Helper()
	now := w.look()
	deploy.Eventually(w.t, limit, "the host to have the same for a while", func() bool {
		time.Sleep(time.Second)
		before := now
		now = w.look()
		return slices.Equal(before.host, now.host)
	})
	return now
}

func (u *upgraded) write(value string) {
	u.t.Helper()
	i := u.Instance(u.id)
	deploy.Eventually(u.t, limit, "the database to take a value", func() bool {
		said, err := ask(i, "SET walk '"+value+"'")
		return err == nil && said[0] == "OK"
	})
}

// ask logs in and runs commands, each a line, in the form that Redis has for people, and returns what it said to each.
func ask(i wire.Instance, commands ...string) ([]string, error) {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(i.Addresses[0].Address, "6379"), time.Second)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return nil, err
	}
	in := bufio.NewReader(conn)
	var said []string
	for _, c := range append([]string{"AUTH app " + deploy.Password}, commands...) {
		if _, err := fmt.Fprintf(conn, "%s\r\n", c); err != nil {
			return nil, err
		}
		text, err := readReply(in)
		if err != nil {
			return nil, err
		}
		said = append(said, text)
	}
	return said[1:], nil
}

// readReply reads a simple text, an error or a text with its length.
func readReply(in *bufio.Reader) (string, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	switch {
	case strings.HasPrefix(line, "+"):
		return line[1:], nil
	case strings.HasPrefix(line, "$-1"):
		return "", nil
	case !strings.HasPrefix(line, "$"):
		return "", fmt.Errorf("the server says %q", line)
	}
	var length int
	if _, err := fmt.Sscanf(line, "$%d", &length); err != nil {
		return "", err
	}
	var text strings.Builder
	for text.Len() < length+2 {
		part, err := in.ReadString('\n')
		if err != nil {
			return "", err
		}
		text.WriteString(part)
	}
	return strings.TrimSuffix(text.String(), "\r\n"), nil
}
