package openstack_test

import (
	"context"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
)

// engine is a datastore of the story: what its own client is called with, and what it is asked.
type engine struct {
	datastore, version string
	next               string // a version that the long story rebuilds to
	apart              string // what is told of it elsewhere than the others, for the heading
	port               string
	password           string // of the user anna, made anew for each run
	client             func(ctx context.Context, st *story, statement string) *exec.Cmd

	write, read, versionQuery string
}

func mariadb() engine {
	return engine{
		datastore: "mariadb", version: "10.11", next: "11.8", port: "3306", password: rand.Text(),
		client: func(ctx context.Context, st *story, statement string) *exec.Cmd {
			file := st.secretFile("my.cnf", "[client]\nuser=anna\npassword="+st.engine.password+"\n")
			return st.machine.Command(ctx, "mariadb", "--defaults-extra-file="+file, "--ssl-ca="+st.ca, "--ssl-verify-server-cert", "--host="+st.address, "-N", "-e", statement, "shop")
		},
		write: "CREATE TABLE t (v TEXT); INSERT INTO t VALUES ('kept')", read: "SELECT v FROM t",
		versionQuery: "SELECT VERSION()",
	}
}

// mysql is spoken to with the client of MariaDB, which is what Debian's stable releases have.
func mysql() engine {
	e := mariadb()
	e.datastore, e.version, e.next = "mysql", "9.7", ""
	return e
}

func postgresql() engine {
	return engine{
		datastore: "postgresql", version: "15", next: "17", port: "5432", password: rand.Text(),
		client: func(ctx context.Context, st *story, statement string) *exec.Cmd {
			file := st.secretFile("pgpass", "*:*:*:anna:"+st.engine.password+"\n")
			cmd := st.machine.Command(ctx, "psql", "host="+st.address+" user=anna dbname=shop sslmode=verify-full sslrootcert="+st.ca, "-At", "-c", statement)
			cmd.Env = append(cmd.Env, "PGPASSFILE="+file)
			return cmd
		},
		write: "CREATE TABLE t (v TEXT); INSERT INTO t VALUES ('kept')", read: "SELECT v FROM t",
		versionQuery: "SELECT version()",
	}
}

// secretFile writes a file that only root reads: a password is on no command line.
func (st *story) secretFile(name, text string) string {
	st.t.Helper()
	path := filepath.Join(st.t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		st.t.Fatal(err)
	}
	return path
}
