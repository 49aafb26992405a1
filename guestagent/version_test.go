package guestagent_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/fake"
	"github.com/trove-dbaas/trove/guestagent/kept"
	"github.com/trove-dbaas/trove/guestapi"

	trove "github.com/trove-dbaas/trove"
)

func (g *guest) must(c guestapi.Command, id string, args any) guestapi.OperationStatus {
	g.t.Helper()
	end := g.long(c, id, args)
	if end.State != guestapi.StateDone {
		g.t.Fatalf("%s ended with %+v", c, end)
	}
	return end
}

func upgradeArgs() guestapi.UpgradeArgs {
	return guestapi.UpgradeArgs{ConfigureArgs: guestapi.ConfigureArgs{ServerID: 7, RAM: 512, VCPUs: 1}}
}

// otherImage ends the agent and its engine and begins again with programs of another version, as a new machine on the same volume does.
func (g *guest) otherImage(version string) {
	g.t.Helper()
	g.stop()
	g.fake = fake.New()
	g.fake.SetVersion(version)
	g.cfg.Engine, g.cfg.BootID = g.fake, g.cfg.BootID+"'"
	g.start()
}

func (g *guest) databases() string {
	g.t.Helper()
	all, fail := ask[[]trove.Database](g, guestapi.CmdListDatabases, "l", nil)
	if fail != nil {
		g.t.Fatalf("list the databases: %+v", fail)
	}
	var names []string
	for _, d := range all {
		names = append(names, d.Name)
	}
	return strings.Join(names, " ")
}

func (g *guest) isKept() bool {
	g.t.Helper()
	_, err := os.Stat(filepath.Join(g.layout.Data, kept.Dir))
	return err == nil
}

// upgraded prepares a guest of version 1.0 and takes its data over with 2.0.
func upgraded(t *testing.T) *guest {
	t.Helper()
	g := newGuest(t)
	g.prepared()
	g.must(guestapi.CmdStop, "op/stop", nil)
	g.must(guestapi.CmdKeepData, "op/keep", nil)
	g.otherImage("2.0")
	end := g.must(guestapi.CmdUpgrade, "op/upgrade", upgradeArgs())
	if !strings.Contains(end.Sentence, "2.0") {
		t.Errorf("the upgrade said %q at its end", end.Sentence)
	}
	g.untilService(trove.ServiceHealthy)
	return g
}

func TestAnUpgradeAndItsWayBack(t *testing.T) {
	g := upgraded(t)
	if g.databases() != "shop" || !g.isKept() {
		t.Errorf("after the upgrade there are the databases %q, data is kept: %v", g.databases(), g.isKept())
	}
	if _, fail := ask[any](g, guestapi.CmdCreateDatabase, "c", []trove.Database{{Name: "later"}}); fail != nil {
		t.Fatal(fail)
	}
	g.must(guestapi.CmdStop, "op2/stop", nil)
	g.otherImage("1.0")
	g.must(guestapi.CmdRestoreData, "op2/restore", nil)
	g.must(guestapi.CmdConfigure, "op2/start", guestapi.ConfigureArgs{ServerID: 7, RAM: 512, VCPUs: 1, Restart: true})
	g.untilService(trove.ServiceHealthy)
	if g.databases() != "shop" || g.isKept() {
		t.Errorf("after the way back there are the databases %q, data is kept: %v", g.databases(), g.isKept())
	}
}

func TestAConfirmedUpgradeHasNoWayBack(t *testing.T) {
	g := upgraded(t)
	g.must(guestapi.CmdDropKept, "op2/drop", nil)
	if g.isKept() {
		t.Error("data is still kept")
	}
	g.must(guestapi.CmdRestoreData, "op3/restore", nil)
	g.must(guestapi.CmdRestart, "op3/restart", nil)
	g.untilService(trove.ServiceHealthy)
	if g.databases() != "shop" {
		t.Errorf("there are the databases %q", g.databases())
	}
}

// TestAServerThatDoesNotStartOnUpgradedDataIsTakenBack: the failure has the last lines of its log, and the kept data starts under the old version.
func TestAServerThatDoesNotStartOnUpgradedDataIsTakenBack(t *testing.T) {
	g := newGuest(t)
	g.prepared()
	g.must(guestapi.CmdStop, "op/stop", nil)
	g.must(guestapi.CmdKeepData, "op/keep", nil)
	g.otherImage("2.0")
	g.fake.RunScript("echo the new format is broken >&2; sleep 0.1; exit 1")
	end := g.long(guestapi.CmdUpgrade, "op/upgrade", upgradeArgs())
	if end.State != guestapi.StateFailed || end.Error == nil || !strings.Contains(end.Error.Message, "the new format is broken") {
		t.Errorf("the upgrade ended with %+v, %+v", end, end.Error)
	}
	g.otherImage("1.0")
	g.must(guestapi.CmdRestoreData, "op/keep-undo", nil)
	g.must(guestapi.CmdConfigure, "op/engine-undo", guestapi.ConfigureArgs{ServerID: 7, RAM: 512, VCPUs: 1, Restart: true})
	g.untilService(trove.ServiceHealthy)
	if g.databases() != "shop" {
		t.Errorf("there are the databases %q", g.databases())
	}
}

// TestAnUpgradeThatWasCutOffGoesOn: the next agent runs it again from the beginning.
func TestAnUpgradeThatWasCutOffGoesOn(t *testing.T) {
	g := newGuest(t)
	g.prepared()
	g.must(guestapi.CmdStop, "op/stop", nil)
	g.must(guestapi.CmdKeepData, "op/keep", nil)
	g.otherImage("2.0")
	g.fake.FailNext(fake.OpFinishUpgrade, context.Canceled) // all is done but the end
	if end := g.long(guestapi.CmdUpgrade, "op/upgrade", upgradeArgs()); end.State != guestapi.StateFailed {
		t.Fatalf("the upgrade ended with %+v", end)
	}
	g.must(guestapi.CmdUpgrade, "op2/upgrade", upgradeArgs())
	g.untilService(trove.ServiceHealthy)
	if g.databases() != "shop" {
		t.Errorf("there are the databases %q", g.databases())
	}
}

// TestAnUpgradeIsNotTakenBackToTheDataOfAnEarlierOne: a store that was restored from before an upgrade knows nothing of the copy that this one has left.
func TestAnUpgradeIsNotTakenBackToTheDataOfAnEarlierOne(t *testing.T) {
	for name, keeps := range map[string]bool{"it failed": true, "it was cancelled before it kept anything": false} {
		t.Run(name, func(t *testing.T) {
			g := upgraded(t)
			if _, fail := ask[any](g, guestapi.CmdCreateDatabase, "c", []trove.Database{{Name: "later"}}); fail != nil {
				t.Fatal(fail)
			}
			g.must(guestapi.CmdStop, "op3/engine", nil)
			if keeps {
				g.must(guestapi.CmdKeepData, "op3/keep", nil)
				g.otherImage("3.0")
				g.fake.RunScript("exit 1")
				if end := g.long(guestapi.CmdUpgrade, "op3/upgrade", upgradeArgs()); end.State != guestapi.StateFailed {
					t.Fatalf("the upgrade ended with %+v", end)
				}
				g.otherImage("2.0")
			}
			g.must(guestapi.CmdRestoreData, "op3/keep-undo", nil)
			g.must(guestapi.CmdConfigure, "op3/engine-undo", guestapi.ConfigureArgs{ServerID: 7, RAM: 512, VCPUs: 1, Restart: true})
			g.untilService(trove.ServiceHealthy)
			if got := g.databases(); got != "later shop" {
				t.Errorf("there are the databases %q", got)
			}
		})
	}
}

func TestDataIsKeptOfAStoppedDatabaseOnly(t *testing.T) {
	g := newGuest(t)
	g.prepared()
	for _, c := range []guestapi.Command{guestapi.CmdKeepData, guestapi.CmdUpgrade} {
		var args any
		if c == guestapi.CmdUpgrade {
			args = upgradeArgs()
		}
		end := g.long(c, "op/"+string(c), args)
		if end.State != guestapi.StateFailed || end.Error.Kind != trove.KindConflict {
			t.Errorf("%s of a database that runs ended with %+v", c, end)
		}
	}
	if g.isKept() || g.databases() != "shop" {
		t.Errorf("data is kept: %v, the databases are %q", g.isKept(), g.databases())
	}
}

func TestCheckUpgrade(t *testing.T) {
	g := newGuest(t)
	g.fake.SetVersion("2.0")
	g.prepared()
	g.fake.SetFindings(engine.Finding{Sentence: "Worth knowing."})
	check := func(version string) guestapi.UpgradeCheck {
		t.Helper()
		u, fail := ask[guestapi.UpgradeCheck](g, guestapi.CmdCheckUpgrade, "u", guestapi.CheckUpgradeArgs{Version: version})
		if fail != nil {
			t.Fatal(fail)
		}
		return u
	}
	u := check("3.0")
	if u.Programs != "2.0" || u.Data != "2.0" || u.Bytes <= 0 || u.Free <= 0 || len(u.Findings) != 1 || u.Findings[0].Blocks {
		t.Errorf("the check says %+v", u)
	}
	if u = check("1.9"); len(u.Findings) != 2 || !u.Findings[0].Blocks || !strings.Contains(u.Findings[0].Sentence, "older") {
		t.Errorf("the check of an older version says %+v", u)
	}
	g.must(guestapi.CmdStop, "op/stop", nil)
	if _, fail := ask[guestapi.UpgradeCheck](g, guestapi.CmdCheckUpgrade, "u", guestapi.CheckUpgradeArgs{Version: "3.0"}); fail == nil || fail.Kind != trove.KindUnavailable {
		t.Errorf("the check of a database that is down: %+v", fail)
	}
}

// TestFinishUpgradeAfterAnotherImageOfTheVersion does what is left to do, once.
func TestFinishUpgradeAfterAnotherImageOfTheVersion(t *testing.T) {
	g := newGuest(t)
	g.prepared()
	for n, want := range []string{"1.0", "done"} {
		if end := g.must(guestapi.CmdFinishUpgrade, "op/finish"+string(rune('0'+n)), nil); !strings.Contains(end.Sentence, want) {
			t.Errorf("run %d said %q, want %q", n, end.Sentence, want)
		}
	}
}
