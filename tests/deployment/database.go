package deployment

import (
	"database/sql"
	"database/sql/driver"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/trove-dbaas/trove/api/wire"
)

// Open connects to an instance over TCP.
func Open(t testing.TB, i wire.Instance, user, pass, database string) *sql.DB {
	t.Helper()
	if len(i.Addresses) == 0 {
		t.Fatalf("instance %s has no address", i.Name)
	}
	db := sql.OpenDB(Connector(i, user, pass, database))
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// Connector makes connections to an instance, which has an address.
func Connector(i wire.Instance, user, pass, database string) driver.Connector {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd, cfg.Net, cfg.Addr, cfg.DBName = user, pass, "tcp", net.JoinHostPort(i.Addresses[0].Address, "3306"), database
	cfg.TLSConfig = "skip-verify" // the certificate is the instance's own
	cfg.Timeout, cfg.ReadTimeout, cfg.WriteTimeout = 5*time.Second, 10*time.Second, 10*time.Second
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		panic(err) // the settings above are fixed
	}
	return connector
}

// Query20Hz asks a query every 50 ms until the returned function is called, which says how many failed.
func Query20Hz(t testing.TB, db *sql.DB) func() int {
	t.Helper()
	var failed, asked atomic.Int32
	done, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for { // the first query is asked at once: what is watched may be over before the first tick
			var one int
			asked.Add(1)
			if err := db.QueryRow("SELECT 1").Scan(&one); err != nil {
				t.Logf("query failed: %v", err)
				failed.Add(1)
			}
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	return func() int {
		close(stop)
		<-done
		if asked.Load() == 0 {
			t.Error("the client asked nothing")
		}
		return int(failed.Load())
	}
}
