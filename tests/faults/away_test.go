package faults_test

import (
	"database/sql"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/client"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/tests/dbserver"
)

// refusedFor reports whether a call was refused with 503 and a sentence that has one of the words. A call with a key may also find the one that was cut off:
// it is told when to ask again.
func refusedFor(err error, words ...string) bool {
	e, ok := errors.AsType[*client.Error](err)
	if !ok {
		return false
	}
	if e.Status == http.StatusConflict && e.RetryAfter > 0 {
		return true
	}
	return e.Status == http.StatusServiceUnavailable && strings.HasSuffix(e.Message, ".") &&
		slices.ContainsFunc(words, func(word string) bool { return strings.Contains(e.Message, word) })
}

// TestDatabaseAwayAndBack kills the database's server under load, and starts it again.
func TestDatabaseAwayAndBack(t *testing.T) {
	onServers(t, func(t *testing.T, s *dbserver.Server, cfg sqlstore.Config) {
		w := newWorld(t, cfg)
		l := w.startLoad(t, func(_ string, err error) bool { return refusedFor(err, "database") })
		for range 2 {
			pause(t, time.Second)
			s.Signal(syscall.SIGKILL)
			before := l.failures()
			w.eventually("calls to be refused", func() bool { return l.failures() > before+5 })
			pause(t, time.Second)
			if err := s.Restart(); err != nil {
				t.Fatal(err)
			}
			l.goesOn(l.succeeded())
		}
		l.check(t)
	})
}

// guestCalls are those that ask the guest while the client waits. A change of a group is told later to guests that are away.
var guestCalls = []string{"attach", "detach", "create database", "create user", "show user", "delete user", "delete database"}

// TestBusAwayAndBack ends the broker under load, and starts it again: what needs no guest goes on, what needs one says so, and guests come back.
func TestBusAwayAndBack(t *testing.T) {
	server := dbserver.Start(t, dbserver.PostgreSQL, dbserver.Options{}).Database(t)
	w := newWorld(t, sqlstore.Config{Server: server, Quotas: quotas})
	l := w.startLoad(t, func(what string, err error) bool {
		return slices.Contains(guestCalls, what) && refusedFor(err, "guest")
	})
	for range 2 {
		pause(t, time.Second)
		w.end(w.broker)
		before, others := l.failures(), l.succeeded()
		w.eventually("calls to the guest to be refused", func() bool { return l.failures() > before })
		w.eventually("other calls to go on", func() bool {
			now := l.succeeded()
			return now["list"] > others["list"]+5 && now["create module"] > others["create module"]+5
		})
		w.begin(w.broker)
		l.goesOn(l.succeeded())
	}
	l.check(t)
}

// TestDiskFull fills the disk of a SQLite store under load: reads go on, changes are refused with a sentence, and with space again everything goes on.
func TestDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: a mount")
	}
	dir := t.TempDir()
	// Large enough that the load alone does not fill it while a busy machine takes its time.
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=192m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	w := newWorld(t, sqlstore.Config{Path: filepath.Join(dir, "store.db"), Quotas: quotas})
	reading := []string{"list", "show", "clusters", "long poll"}
	l := w.startLoad(t, func(what string, err error) bool {
		return !slices.Contains(reading, what) && refusedFor(err, "full")
	})
	pause(t, time.Second)
	filler := fill(t, filepath.Join(dir, "filler"))
	before := l.failures()
	w.eventually("changes to be refused", func() bool { return l.failures() > before+3 })
	reads := l.succeeded()
	w.eventually("reads to go on", func() bool {
		now := l.succeeded()
		return now["list"] > reads["list"]+20 && now["show"] > reads["show"]+20
	})
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	l.goesOn(l.succeeded())
	l.check(t)
	db, err := sql.Open("sqlite", filepath.Join(dir, "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var sound string
	if err := db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&sound); err != nil || sound != "ok" {
		t.Errorf("the file is %q, %v", sound, err)
	}
}

// fill writes a file until there is no space, and keeps at it while the log is reset and makes some.
func fill(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return path
}
