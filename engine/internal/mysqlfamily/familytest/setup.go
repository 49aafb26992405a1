// Package familytest are the tests of the drivers of package mysqlfamily: what each of its products must do beside the suite of all engines.
package familytest

import (
	"context"
	"crypto/tls"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/enginetest"
)

// Case is a product.
type Case struct {
	New     func() Driver
	Manager string
	Server  string         // the server's program
	Tables  []string       // the program that makes the system tables, as somebody else would call it
	Bare    []string       // arguments of both in runs without a configuration
	Version *regexp.Regexp // its first group is the version in what the program says of itself
	Client  []string       // the client's program, and how it is told to use TLS
	Proof   string         // what is in a statement that makes a user, and in no file once that has run
	// Accounts lists all accounts; Fresh are those that a new server with root enabled has, in order.
	Accounts, Fresh string
	Identity        []string // patterns of files, below the volume, that tell one server from another

	Variables func(t testing.TB, db *sql.DB) map[string]Variable
	Troves    string            // names of Trove's rules that must be there
	Values    map[string]string // for parameters that are texts
	Excluded  []string          // parameters whose value at a limit keeps the test out
	Binding   map[string]string // parameters that would bind the agent's own statements
	TLS       []TLSStep
}

// Variable is what the server says of a variable of its own.
type Variable struct {
	Type     trove.ParameterType
	Min, Max string // "": there is none
	ReadOnly bool
	Global   string
}

// Run runs the tests of a product, each with servers of its own.
func Run(t *testing.T, c Case) {
	t.Helper()
	for name, test := range map[string]func(*testing.T){
		"Conformance": c.conformance, "PasswordsAreNeverWritten": c.passwordsAreNeverWritten,
		"ReadyFindsWhatTheFirstStartDidNotMake": c.readyFindsWhatTheFirstStartDidNotMake, "BootEmptiesTheRuntimeDirectory": c.bootEmptiesTheRuntimeDirectory,
		"PrepareRefusesACertificateWithoutItsKey": c.prepareRefusesACertificateWithoutItsKey, "RestartMendsTheAgentsAccount": c.restartMendsTheAgentsAccount,
		"InitialiseLeavesNoIdentity": c.initialiseLeavesNoIdentity, "CommandIsForAPreparedServer": c.commandIsForAPreparedServer,
		"SettingsFollowTheFlavor":                        c.settingsFollowTheFlavor,
		"OverridesAreQuotedAndCannotReplaceFixedOptions": c.overridesAreQuotedAndCannotReplaceFixedOptions,
		"TLSModes": c.tlsModes, "NewAccountsShowCertificatesToo": c.newAccountsShowCertificatesToo, "RulesAreThoseOfTheServer": c.rulesAreThoseOfTheServer,
		"EveryParameterCanBeSetAndSurvivesARestart": c.everyParameterCanBeSetAndSurvivesARestart, "AppliesAreTogetherOrNot": c.appliesAreTogetherOrNot,
		"BufferPoolBeyondTheMemoryIsRefused": c.bufferPoolBeyondTheMemoryIsRefused,
		"AgentIsNotBoundByGlobalVariables":   c.agentIsNotBoundByGlobalVariables, "FirstStartHasTheOverrides": c.firstStartHasTheOverrides,
		"AdoptsWhatAPythonTroveLeft": c.adoptsWhatAPythonTroveLeft,
		"CertificatesOfAnAuthority":  c.certificatesOfAnAuthority, "Metrics": c.metrics, "Statements": c.statements,
	} {
		t.Run(name, test)
	}
}

// Driver is an engine of the family.
type Driver interface {
	engine.Engine
	engine.Configurable
	engine.VersionedRules
	engine.TLSSource
	engine.MetricSource
	engine.StatementSource
	engine.Upgrader
	FixedOptions() []string
}

// Main ends the tests' process.
func Main(m *testing.M) {
	m.Run()
	if template.dir != "" {
		_ = os.RemoveAll(template.dir)
	}
}

// engineID is the account that the servers of these tests run as: one that owns nothing.
const engineID = 65534

// addresses hands out loopback addresses: each server of a test has the product's port for itself.
var addresses atomic.Uint32

// layout makes the directories of a guest. They are not below t.TempDir, whose path is too long for a socket.
func (c Case) layout(t testing.TB) engine.Layout {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: the agent's account in the server is that of the operating system's root")
	}
	if _, err := os.Stat(c.Server); err != nil {
		t.Fatalf("the server's programs are missing; install them: %v", err)
	}
	dir, err := os.MkdirTemp("", "mdb") //nolint:usetesting // t.TempDir is closed to other accounts and its path too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	pid := os.Getpid()
	l := engine.Layout{
		Data: dir + "/data", Runtime: dir + "/run", State: dir + "/state", UID: engineID, GID: engineID,
		Address: fmt.Sprintf("127.%d.%d.%d", 64+pid>>8&0x3f, pid&0xff, 1+addresses.Add(1)),
	}
	for path, perm := range map[string]os.FileMode{dir: 0o755, l.Data: 0o755, l.Runtime: 0o711, l.State: 0o700} {
		if err := os.MkdirAll(path, perm); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, perm); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// template is a volume with a data directory, made once for all tests.
var template = struct {
	once sync.Once
	dir  string
}{}

// fill copies the template's data directory: Initialise takes most of a second.
func (c Case) fill(t testing.TB, l engine.Layout) {
	t.Helper()
	template.once.Do(func() {
		made := c.layout(t)
		if err := c.New().Initialise(t.Context(), made); err != nil {
			t.Fatal(err)
		}
		dir, err := os.MkdirTemp("", "mdbt") //nolint:usetesting // it outlives the test
		if err != nil {
			t.Fatal(err)
		}
		template.dir = dir
		if err := os.Rename(made.Data, dir+"/data"); err != nil {
			t.Fatal(err)
		}
	})
	if template.dir == "" {
		t.Fatal("the template of the data directory was not made")
	}
	out, err := exec.CommandContext(t.Context(), "cp", "--archive", "--sparse=always", template.dir+"/data/.", l.Data).CombinedOutput()
	if err != nil {
		t.Fatalf("copy the data directory: %v: %s", err, out)
	}
}

// client opens a connection as a tenant's client does: over TCP and TLS.
func client(t testing.TB, l engine.Layout, user string, password trove.Secret, database string) *sql.DB {
	t.Helper()
	config := clientConfig(l, user, password)
	config.DBName = database
	return open(t, config)
}

func clientTLS(t testing.TB, l engine.Layout, user string, password trove.Secret, c *tls.Config) *sql.DB {
	t.Helper()
	config := clientConfig(l, user, password)
	config.TLS = c
	return open(t, config)
}

func clientConfig(l engine.Layout, user string, password trove.Secret) *mysql.Config {
	config := mysql.NewConfig()
	config.User, config.Passwd = user, password.Reveal()
	config.Net, config.Addr = "tcp", net.JoinHostPort(l.Address, strconv.Itoa(3306))
	config.TLS = &tls.Config{InsecureSkipVerify: true} // self-signed
	config.Timeout = 10 * time.Second
	config.Logger = &mysql.NopLogger{}
	return config
}

func open(t testing.TB, config *mysql.Config) *sql.DB {
	t.Helper()
	connector, err := mysql.NewConnector(config)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func (c Case) setup(t testing.TB) enginetest.Setup {
	t.Helper()
	longest := min(c.New().Info().Capabilities.MaxUserName, 64)
	return enginetest.Setup{
		Engine: c.New(), Layout: c.layout(t), Fill: c.fill,
		Login: func(ctx context.Context, l engine.Layout, user string, password trove.Secret, database string) error {
			db := client(t, l, user, password, database)
			defer func() { _ = db.Close() }()
			var one int
			return db.QueryRowContext(ctx, "SELECT 1").Scan(&one)
		},
		Shown: shown,
		Set: func(ctx context.Context, l engine.Layout, password trove.Secret, name, value string) error {
			db := client(t, l, "root", password, "")
			defer func() { _ = db.Close() }()
			_, err := db.ExecContext(ctx, "SET GLOBAL "+name+" = "+value)
			return err
		},
		Override: "wait_timeout", Value: "1234", Changed: "77", Static: "innodb_sort_buffer_size", StaticValue: "2097152", LogsWritten: true,
		Refused: map[string]string{
			"wait_timeout": "0", "sql_mode": `"NONSENSE"`, "max_connections": "0", "innodb_flush_method": `"nonsense"`, "no_such_parameter": "1",
			"character_set_client": `"latin9000"`, "join_buffer_size": "18446744073709551616", "event_scheduler": `"sometimes"`,
		},
		Read: func(ctx context.Context, l engine.Layout, user string, password trove.Secret) (string, error) {
			db := client(t, l, user, password, "")
			defer func() { _ = db.Close() }()
			var value string
			err := db.QueryRowContext(ctx, "SELECT @@global.wait_timeout").Scan(&value)
			return value, err
		},
		Names: []string{strings.Repeat("a_", longest/2), strings.Repeat(`\`, 32)},
		BadOverrides: map[string]string{
			"datadir": `"/tmp/x"`, "datadi": `"/tmp/x"`, "loose_datadir": `"/tmp/x"`, "init-file": `"x"`, "INIT_FILE": `"x"`, "skip_grant_tables": "true",
			"loose_skip_grant_tables": "true", "plugin_load_add": `"x"`, "user": `"root"`, "wait_timeout\nuser": "1", "max_connections": `{"a":1}`,
			"sql_mode": "\"a\\nuser=root\"", "socket": `"x"`, "port": "3307", "": "1",
		},
	}
}

func (c Case) conformance(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) enginetest.Setup { return c.setup(t) })
}
