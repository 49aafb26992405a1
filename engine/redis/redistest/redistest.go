// Package redistest holds the tests of the driver of Redis and Valkey: the suite of every engine, and what these two promise beyond it. Each of the two
// packages runs it against its own server. It is for tests alone; a run starts servers on loopback addresses as root, and ends them.
package redistest

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/gomodule/redigo/redis"

	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/enginetest"
	driver "github.com/trove-dbaas/trove/engine/redis"
	"github.com/trove-dbaas/trove/internal/clock"
)

// New makes the driver under test.
type New func(log *slog.Logger, clk clock.Clock) *driver.Engine

// Run runs all of it.
func Run(t *testing.T, newEngine New) {
	t.Helper()
	t.Run("Conformance", func(t *testing.T) {
		enginetest.Run(t, func(t *testing.T) enginetest.Setup { return setup(t, newEngine) })
	})
	for name, part := range map[string]func(t *testing.T, s enginetest.Setup){
		"PasswordsAreNeverWritten": passwordsAreNeverWritten, "BootEmptiesTheRuntimeDirectory": bootEmptiesRuntime,
		"StartMendsTheAgentsAccount": startMendsTheAccount, "StartNeedsNoSpaceForUsers": startNeedsNoSpace, "LinkInPlaceOfTheUsers": linkInPlaceOfUsers,
		"NotPrepared": notPrepared, "SettingsFollowTheFlavor": settingsFollowTheFlavor, "KillLosesNothingWritten": killLosesNothing,
		"FullVolume": fullVolume, "FullVolumeStopsAndStarts": fullVolumeStops, "UsersMay": usersMay, "RootMay": rootMay, "NobodyWithoutAPassword": nobodyWithoutPassword,
		"RulesAreThoseOfTheServer": rulesOfTheServer, "EveryParameterCanBeSetAndTakenBack": everyParameter, "MemoryIsThatOfTheFlavor": memoryOfTheFlavor,
		"EnforcedEndsPlainConnections": enforced, "MutualWantsACertificate": mutual, "CertificateIsRenewedInTheRunningServer": renewed,
		"WeakKeyIsRefused": weakKey, "DriftOfWrittenValues": driftOfWrittenValues, "SlowCommands": slowCommands, "Metrics": metrics, "Statements": statements, "Versions": versions, "UpgradeChecks": upgradeChecks,
	} {
		t.Run(name, func(t *testing.T) { part(t, setup(t, newEngine)) })
	}
}

// RunUpgrades takes data over from each older version that is at hand.
func RunUpgrades(t *testing.T, newEngine New, older enginetest.OlderProgram) {
	t.Helper()
	s := setup(t, newEngine)
	version, _, err := s.Engine.(engine.Upgrader).Versions(t.Context(), s.Layout)
	must(t, err)
	enginetest.RunUpgrades(t, version, older, func(t *testing.T) enginetest.Setup { return setup(t, newEngine) })
}

// prepared makes the data directory and prepares the server.
func prepared(t *testing.T, s enginetest.Setup, p engine.Preparation) {
	t.Helper()
	must(t, s.Engine.Initialise(t.Context(), s.Layout))
	p.InstanceID = "3b0b86f0-2f4f-4b0c-9a43-0b7b8d6f6a55"
	if p.Settings.RAM == 0 {
		p.Settings.RAM, p.Settings.VCPUs = 512, 1
	}
	must(t, s.Engine.Prepare(t.Context(), s.Layout, p))
}

// The driver's directories and files.
func manager(e engine.Engine) string { return e.Info().Manager }

func runtimeDir(e engine.Engine, l engine.Layout) string { return filepath.Join(l.Runtime, manager(e)) }

func dataDir(e engine.Engine, l engine.Layout) string { return filepath.Join(l.Data, manager(e)) }

func usersFile(e engine.Engine, l engine.Layout) string {
	return filepath.Join(dataDir(e, l), "users.acl")
}

func settingsFile(e engine.Engine, l engine.Layout) string {
	return filepath.Join(l.State, manager(e), "settings.json")
}

// admin connects as the agent does.
func admin(ctx context.Context, e engine.Engine, l engine.Layout) (redis.Conn, error) {
	data, err := os.ReadFile(settingsFile(e, l))
	if err != nil {
		return nil, err
	}
	var kept struct{ Admin string }
	if err := json.Unmarshal(data, &kept); err != nil {
		return nil, err
	}
	return redis.DialContext(ctx, "unix", filepath.Join(runtimeDir(e, l), "run", "server.sock"), redis.DialUsername("trove_admin"), redis.DialPassword(kept.Admin))
}

// parameter returns a parameter of the running server.
func parameter(ctx context.Context, e engine.Engine, l engine.Layout, name string) (string, error) {
	c, err := admin(ctx, e, l)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	values, err := redis.StringMap(c.Do("CONFIG", "GET", name))
	return values[name], err
}

// adminConn is such a connection for the length of a test.
func adminConn(t *testing.T, s enginetest.Setup) redis.Conn {
	t.Helper()
	c, err := admin(t.Context(), s.Engine, s.Layout)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// clientConn is a connection of alice's for the length of a test.
func clientConn(t *testing.T, s enginetest.Setup) redis.Conn {
	t.Helper()
	c, err := dial(t.Context(), s.Layout, "alice", password, nil)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}
