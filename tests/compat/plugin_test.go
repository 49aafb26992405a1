package compat_test

import (
	_ "embed"
	"os/exec"
	"testing"
)

//go:embed tempest.py
var tempestScript string

// brokenVersion is a defect of the plugin: it asks MariaDB for a variable that MariaDB does not have since 10.10. It is the last thing that its test of an
// upgrade asks: instance, data, and the request of the upgrade were well.
const brokenVersion = "Unknown system variable 'innodb_version'"

// passed is the output of a test that passed, and was not skipped.
const passed = "^passed$"

// Tests of engines that the deployment of the test does not have; they are Tempest's own skips.
const (
	noMySQL      = "skipped: Datastore mysql is not enabled"
	noPostgreSQL = "skipped: Datastore postgresql is not enabled"
)

// tempestRows are the tests of trove-tempest-plugin. They log in to the databases over the network. None needs a Neutron, as the network is given by its id;
// those of backups need a Swift or a Cinder with the original.
var tempestRows = []row{
	{cmd: "TestInstanceBasicMariaDB.test_database_access", prints: passed},
	{cmd: "TestInstanceBasicMariaDB.test_user_database", prints: passed},
	{cmd: "TestInstanceBasicMariaDB.test_configuration", prints: passed},
	{cmd: "TestInstanceActionsMariaDB.test_resize", prints: passed},
	{cmd: "TestInstanceActionsMariaDB.test_rebuild", prints: passed},
	{cmd: "TestInstanceActionsMariaDB.test_instance_upgrade", fails: brokenVersion},
	{cmd: "TestInstanceUpdateAccessMariaDB.test_instance_update_access", prints: passed},
	{cmd: "TestBackupMariaDB.test_backup_full", prints: passed},
	{cmd: "TestBackupMariaDB.test_backup_incremental", prints: passed},
	{cmd: "TestCinderBackupMariaDB.test_backup_cinder", prints: passed},
	{cmd: "TestReplicationMariaDB.test_replication", prints: passed},

	{cmd: "TestInstanceBasicMySQL.test_database_access", prints: noMySQL},
	{cmd: "TestInstanceBasicMySQL.test_user_database", prints: noMySQL},
	{cmd: "TestInstanceBasicMySQL.test_configuration", prints: noMySQL},
	{cmd: "TestInstanceActionsMySQL.test_resize", prints: noMySQL},
	{cmd: "TestInstanceActionsMySQL.test_rebuild", prints: noMySQL},
	{cmd: "TestInstanceActionsMySQL.test_instance_upgrade", prints: noMySQL},
	{cmd: "TestInstanceUpdateAccessMySQL.test_instance_update_access", prints: noMySQL},
	{cmd: "TestBackupMySQL.test_backup_full", prints: noMySQL},
	{cmd: "TestBackupMySQL.test_backup_incremental", prints: noMySQL},
	{cmd: "TestCinderBakcupMySQL.test_backup_cinder", prints: noMySQL},
	{cmd: "TestReplicationMySQL.test_replication", prints: noMySQL},

	{cmd: "TestInstanceBasicPostgreSQL.test_database_access", prints: noPostgreSQL},
	{cmd: "TestInstanceBasicPostgreSQL.test_user_database", prints: noPostgreSQL},
	{cmd: "TestInstanceBasicPostgreSQL.test_configuration", prints: noPostgreSQL},
	{cmd: "TestInstanceActionsPostgreSQL.test_resize", prints: noPostgreSQL},
	{cmd: "TestInstanceActionsPostgreSQL.test_rebuild", prints: noPostgreSQL},
	{cmd: "TestInstanceActionsPostgreSQL.test_instance_upgrade", prints: noPostgreSQL},
	{cmd: "TestInstanceUpdateAccessPostgreSQL.test_instance_update_access", prints: noPostgreSQL},
	{cmd: "TestBackupPostgreSQL.test_backup_full", prints: noPostgreSQL},
	{cmd: "TestBackupPostgreSQL.test_backup_incremental", prints: noPostgreSQL},
	{cmd: "TestCinderBackupPostgreSQL.test_backup_cinder", prints: noPostgreSQL},
	{cmd: "TestReplicationPostgreSQL.test_replication", prints: noPostgreSQL},
}

// tempestRun is a process of Tempest.
type tempestRun struct {
	conversation

	Tests    []string          // "Class.test"
	Versions map[string]string // of the packages
}

// TestTempest runs each test of the plugin against real MariaDB servers. Nova, which a test asks for the flavor of the machine, is that of
// tests/inmemory/neighbours.go; the accounts are given, as nobody can make users with our own identity service over its API.
func TestTempest(t *testing.T) {
	s := startServerBeside(t)
	cmd := exec.CommandContext(t.Context(), "chroot", dashboardRoot(t, "trixie"), "/usr/bin/python3", "-W", "ignore", "-c", tempestScript)
	te := &tempestRun{conversation: converse(t, cmd)}
	account := func(who login, roles, types []string) object {
		return object{"user": who.user, "password": who.password.Reveal(), "project": who.project, "roles": roles, "types": types}
	}
	te.ask(t, object{
		"auth_url": s.authURL, "region": s.region, "datastore": s.datastore, "version": s.version, "network": s.network, "image": s.image,
		"accounts": []object{account(s.member, []string{"member"}, []string{}), account(s.admin, []string{"admin"}, []string{"admin"})},
	}, te)
	title := "trove-tempest-plugin of trixie (tempest " + te.Versions["tempest"] + ", trove-tempest-plugin " + te.Versions["trove-tempest-plugin"] + ")"
	c := newSuite(s, readExpectations(t), "tempest", title, "te")
	c.call = func(t *testing.T, words []string, _ bool) result {
		t.Helper()
		var r result
		te.ask(t, object{"args": words}, &r)
		if r.Code == 0 && r.Output == "" {
			r.Output = "passed"
		}
		return r
	}
	c.covers(t, te.Tests, tempestRows)
	c.run(t, tempestRows)
	c.report(t)
}
