package dbserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/tests/ports"
)

// galeraLibrary is where Debian's package galera-4 has the provider.
const galeraLibrary = "/usr/lib/galera/libgalera_smm.so"

// Galera starts a cluster of two MariaDB nodes on loopback. Each of them may be written to. The account and the databases are made through the first.
func Galera(tb testing.TB) [2]*Server {
	tb.Helper()
	skipWithout(tb, MariaDB)
	_, err := os.Stat(galeraLibrary)
	if err == nil {
		_, err = exec.LookPath("wsrep_sst_rsync") // gives a new node the data of another
	}
	if err != nil {
		tb.Skipf("no Galera on this machine (scripts/install-packages.sh test): %v", err)
	}
	nodes, err := startCluster()
	for _, n := range nodes {
		if n != nil {
			tb.Cleanup(n.remove)
		}
	}
	if err != nil {
		tb.Fatal(err)
	}
	return nodes
}

func startCluster() (nodes [2]*Server, err error) {
	var own [6]int // for each node the cluster's own three
	for i := range own {
		if own[i], err = ports.Free(); err != nil {
			return nodes, err
		}
	}
	for i := range nodes {
		cluster := "gcomm://"
		if i == 1 {
			cluster = fmt.Sprintf("gcomm://127.0.0.1:%d", own[0])
		}
		nodes[i], err = prepare(MariaDB, Options{Args: []string{
			"--wsrep-on=ON", "--wsrep-provider=" + galeraLibrary, "--wsrep-cluster-address=" + cluster, "--wsrep-cluster-name=test",
			fmt.Sprintf("--wsrep-node-name=node%d", i), "--wsrep-node-address=127.0.0.1", "--wsrep-sst-method=rsync",
			fmt.Sprintf("--wsrep-sst-receive-address=127.0.0.1:%d", own[3*i+2]), "--binlog-format=ROW", "--innodb-autoinc-lock-mode=2",
			// A node that is silent for some seconds is not lost: the machine is busy.
			fmt.Sprintf("--wsrep-provider-options=base_port=%d;gmcast.listen_addr=tcp://127.0.0.1:%d;ist.recv_addr=127.0.0.1:%d;gcache.size=16M;"+
				"evs.suspect_timeout=PT1M;evs.inactive_timeout=PT2M;evs.inactive_check_period=PT5S;gmcast.peer_timeout=PT30S",
				own[3*i], own[3*i], own[3*i+1]),
		}})
		if err != nil {
			return nodes, err
		}
	}
	if err := errors.Join(nodes[0].boot(), nodes[0].makeAccount()); err != nil {
		return nodes, err
	}
	if err := nodes[1].boot(); err != nil {
		return nodes, err
	}
	for end := time.Now().Add(startsIn); ; time.Sleep(50 * time.Millisecond) {
		states := [2]string{nodes[0].clusterState(), nodes[1].clusterState()}
		if states == [2]string{complete, complete} {
			return nodes, nil
		}
		if time.Now().After(end) {
			return nodes, fmt.Errorf("the cluster's nodes are %q, not %q: %s", states, complete, nodes[1].tail())
		}
	}
}

// complete is the state of a node of two that takes statements: to have the other one is not enough, it refuses them until it is ready.
const complete = "2 nodes, ready ON, Synced"

// clusterState is what a node says of itself.
func (s *Server) clusterState() string {
	var name, size, ready, state string
	for _, ask := range []struct {
		what string
		into *string
	}{{"wsrep_cluster_size", &size}, {"wsrep_ready", &ready}, {"wsrep_local_state_comment", &state}} {
		if err := s.admin.QueryRowContext(context.Background(), "SHOW STATUS LIKE '"+ask.what+"'").Scan(&name, ask.into); err != nil {
			return err.Error()
		}
	}
	return size + " nodes, ready " + ready + ", " + state
}
