// Package dbserver starts real database servers for tests: PostgreSQL and MariaDB as Debian packages them, private ones in a temporary directory, on loopback
// and on a socket, under an account without rights (nobody, if the test runs as root).
//
// A server that Shared returns serves all tests of a process; StopShared, called at the end of TestMain, stops it. A server dies with the process that started
// it. It does not wait for the disk unless it is told to: what is confirmed survives the death of the server, not that of the machine.
package dbserver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/tests/ports"
)

// The kinds of servers.
const (
	PostgreSQL = "postgresql"
	MariaDB    = "mariadb"
)

// Kinds are all kinds.
var Kinds = []string{PostgreSQL, MariaDB}

const (
	account  = "trove"
	password = "correct horse" // of the account in every database; the blank must survive
	startsIn = 60 * time.Second
)

// Options say how a server runs.
type Options struct {
	Sync bool     // wait for the disk
	TLS  bool     // with a certificate for 127.0.0.1 that CA signed: itself
	Args []string // more arguments
}

// Server is a server that runs, or did until it was killed.
type Server struct {
	Kind string
	Port int

	dir   string
	opts  Options
	admin *sql.DB

	mu     sync.Mutex
	pid    int
	exited chan struct{}
	made   int
}

var shared struct {
	sync.Mutex
	servers map[string]*Server
	failed  map[string]error
}

// Shared returns the process's server of a kind, and starts it with the first call. The test is skipped if there is no such server on the machine.
func Shared(tb testing.TB, kind string) *Server {
	tb.Helper()
	skipWithout(tb, kind)
	shared.Lock()
	defer shared.Unlock()
	if shared.servers == nil {
		shared.servers, shared.failed = map[string]*Server{}, map[string]error{}
	}
	if shared.servers[kind] == nil && shared.failed[kind] == nil {
		shared.servers[kind], shared.failed[kind] = start(kind, Options{})
	}
	if err := shared.failed[kind]; err != nil {
		tb.Fatal(err)
	}
	return shared.servers[kind]
}

// StopShared stops the servers that Shared started.
func StopShared() {
	shared.Lock()
	defer shared.Unlock()
	for _, s := range shared.servers {
		if s != nil { // it did not start
			s.remove()
		}
	}
	shared.servers = nil
}

// Start starts a server for one test.
func Start(tb testing.TB, kind string, o Options) *Server {
	tb.Helper()
	skipWithout(tb, kind)
	s, err := start(kind, o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.remove)
	return s
}

func skipWithout(tb testing.TB, kind string) {
	tb.Helper()
	if _, err := program(kind); err != nil {
		tb.Skipf("no %s on this machine (scripts/install-packages.sh test): %v", kind, err)
	}
}

// program returns the path of a server's program.
func program(kind string) (string, error) {
	if kind == PostgreSQL {
		found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
		if len(found) > 0 {
			return found[len(found)-1], nil
		}
		return exec.LookPath("postgres")
	}
	for _, dir := range []string{"/usr/sbin", "/usr/bin"} {
		if _, err := os.Stat(dir + "/mariadbd"); err == nil {
			return dir + "/mariadbd", nil
		}
	}
	return exec.LookPath("mariadbd")
}

// nobody is the account that a server runs under if the test is root: servers refuse root.
const nobody = 65534

func attributes() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() == 0 {
		a.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	return a
}

func start(kind string, o Options) (*Server, error) {
	s, err := prepare(kind, o)
	if err != nil {
		return nil, err
	}
	if err = s.boot(); err == nil {
		err = s.makeAccount()
	}
	if err != nil {
		s.remove()
		return nil, err
	}
	return s, nil
}

// prepare makes the files of a server that does not run yet.
func prepare(kind string, o Options) (_ *Server, err error) {
	s := &Server{Kind: kind, opts: o}
	if s.dir, err = os.MkdirTemp("", "trove-"+kind+"-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.remove()
		}
	}()
	if os.Getuid() == 0 {
		if err := os.Chown(s.dir, nobody, nobody); err != nil {
			return nil, err
		}
	}
	if s.Port, err = ports.Free(); err != nil {
		return nil, err
	}
	bin, err := program(kind)
	if err != nil {
		return nil, err
	}
	if kind == PostgreSQL {
		err = s.run(filepath.Join(filepath.Dir(bin), "initdb"), "-D", s.data(), "-U", "postgres", "--auth-local=trust", "--auth-host=scram-sha-256",
			"--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions")
	} else {
		// A server of MariaDB removes temporary tables from its temporary directory when it starts, those of others that run too.
		err = s.run("mariadb-install-db", "--no-defaults", "--datadir="+s.data(), "--tmpdir="+s.dir, "--auth-root-authentication-method=normal", "--skip-test-db",
			"--skip-name-resolve", "--innodb-log-file-size=8M")
	}
	if err != nil {
		return nil, err
	}
	if o.TLS {
		if err := s.useTLS(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// Socket returns what sqlstore.Server calls so.
func (s *Server) socket() string {
	if s.Kind == PostgreSQL {
		return s.dir
	}
	return filepath.Join(s.dir, "sock")
}

func (s *Server) run(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr, cmd.Dir = attributes(), s.dir
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=" + s.dir}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

func (s *Server) arguments() []string {
	if s.Kind == PostgreSQL {
		args := []string{
			"-D", s.data(), "-k", s.dir, "-h", "127.0.0.1", "-p", strconv.Itoa(s.Port), "-c", "max_connections=300", "-c", "shared_buffers=64MB",
			"-c", "max_wal_size=256MB", "-c", "autovacuum=off", "-c", "jit=off", "-c", "fsync=" + onOff(s.opts.Sync),
		}
		return append(args, s.opts.Args...)
	}
	flush := "2"
	if s.opts.Sync {
		flush = "1"
	}
	args := []string{
		"--no-defaults", "--datadir=" + s.data(), "--tmpdir=" + s.dir, "--socket=" + s.socket(), "--bind-address=127.0.0.1", "--port=" + strconv.Itoa(s.Port),
		"--pid-file=" + filepath.Join(s.dir, "pid"), "--max-connections=300", "--innodb-buffer-pool-size=64M", "--skip-name-resolve",
		"--innodb-flush-log-at-trx-commit=" + flush, "--innodb-log-file-size=64M", "--performance-schema=OFF", "--skip-log-bin",
	}
	return append(args, s.opts.Args...)
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

// boot starts the server's process and waits until it answers. A thread of its own starts it, because the process dies with the thread that did.
func (s *Server) boot() error {
	bin, err := program(s.Kind)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	defer log.Close()
	exited, started := make(chan struct{}), make(chan error)
	go func() {
		runtime.LockOSThread()
		defer close(exited)
		cmd := exec.Command(bin, s.arguments()...)
		cmd.SysProcAttr, cmd.Dir, cmd.Stdout, cmd.Stderr = attributes(), s.dir, log, log
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=" + s.dir}
		err := cmd.Start()
		if err == nil {
			s.mu.Lock()
			s.pid, s.exited = cmd.Process.Pid, exited
			s.mu.Unlock()
		}
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", bin, err)
	}
	if s.admin == nil {
		if err := s.openAdmin(); err != nil {
			return err
		}
	}
	return s.waitReady(exited)
}

func (s *Server) waitReady(exited <-chan struct{}) error {
	var last error
	for end := time.Now().Add(startsIn); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if last = s.admin.Ping(); last == nil {
			return nil
		}
		select {
		case <-exited:
			return fmt.Errorf("%s ended: %s", s.Kind, s.tail())
		default:
		}
	}
	return fmt.Errorf("%s does not answer: %w: %s", s.Kind, last, s.tail())
}

func (s *Server) tail() string {
	data, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return string(data[max(0, len(data)-3000):])
}

func (s *Server) openAdmin() (err error) {
	if s.Kind == PostgreSQL {
		s.admin, err = s.openPostgreSQL("postgres")
		return err
	}
	c := mysql.NewConfig()
	c.User, c.Net, c.Addr, c.Logger = "root", "unix", s.socket(), &mysql.NopLogger{}
	connector, err := mysql.NewConnector(c)
	if err == nil {
		s.admin = sql.OpenDB(connector)
	}
	return err
}

// openPostgreSQL names all that the driver would otherwise take from PG... variables of the environment, or from files of the user.
func (s *Server) openPostgreSQL(database string) (*sql.DB, error) {
	return sql.Open("pgx", fmt.Sprintf("host=%s port=%d user=postgres dbname=%s sslmode=disable passfile='' target_session_attrs=any options='' connect_timeout=0",
		s.dir, s.Port, database))
}

func (s *Server) makeAccount() error {
	if s.Kind == PostgreSQL {
		_, err := s.admin.Exec(`CREATE ROLE ` + account + ` LOGIN PASSWORD '` + password + `'`)
		return err
	}
	_, err := s.admin.Exec(`CREATE USER ` + account + `@'%' IDENTIFIED BY '` + password + `'`)
	return err
}

// Database makes an empty database and returns how a store reaches it, over TCP with a password.
func (s *Server) Database(tb testing.TB) *sqlstore.Server {
	tb.Helper()
	s.mu.Lock()
	s.made++
	name := fmt.Sprintf("t%d", s.made)
	s.mu.Unlock()
	statements := []string{`CREATE DATABASE ` + name, `GRANT ALL ON ` + name + `.* TO ` + account + `@'%'`}
	if s.Kind == PostgreSQL {
		statements = []string{`CREATE DATABASE ` + name + ` OWNER ` + account + ` TEMPLATE template0`}
	}
	for _, text := range statements {
		if _, err := s.admin.Exec(text); err != nil {
			tb.Fatalf("%s: %v", text, err)
		}
	}
	return &sqlstore.Server{
		Driver: s.Kind, Hosts: []string{net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port))}, User: account, Database: name, Conns: 4,
		Password: func() (trove.Secret, error) { return password, nil },
	}
}

// Open returns a connection of an administrator to a database.
func (s *Server) Open(tb testing.TB, database string) *sql.DB {
	tb.Helper()
	var db *sql.DB
	var err error
	if s.Kind == PostgreSQL {
		db, err = s.openPostgreSQL(database)
	} else {
		db, err = sql.Open("mysql", "root@unix("+s.socket()+")/"+database)
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	return db
}

// Exec runs a statement as the administrator.
func (s *Server) Exec(ctx context.Context, text string) error {
	_, err := s.admin.ExecContext(ctx, text)
	return err
}

// Signal sends a signal to the server: SIGKILL is its death in the middle of everything, SIGSTOP a server that answers nothing and refuses nothing.
// For PostgreSQL it goes to all of its processes.
func (s *Server) Signal(sig syscall.Signal) {
	s.mu.Lock()
	pid, exited := s.pid, s.exited
	s.mu.Unlock()
	if pid == 0 {
		return
	}
	for _, p := range append(children(pid), pid) {
		_ = syscall.Kill(p, sig)
		for n := 0; sig == syscall.SIGSTOP && n < 500 && !stopped(p); n++ {
			time.Sleep(2 * time.Millisecond) // its threads stop one after another
		}
	}
	if sig == syscall.SIGKILL {
		<-exited
	}
}

// stopped reports whether all threads of a process stand still.
func stopped(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, t := range threads {
		data, _ := os.ReadFile(t)
		if _, rest, found := strings.Cut(string(data), ") "); found && !strings.HasPrefix(rest, "T") {
			return false
		}
	}
	return true
}

// children returns the processes that a process has started itself.
func children(pid int) []int {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var all []int
	for _, t := range tasks {
		data, _ := os.ReadFile(t)
		for text := range strings.FieldsSeq(string(data)) {
			if n, err := strconv.Atoi(text); err == nil {
				all = append(all, n)
			}
		}
	}
	return all
}

// Restart starts a server that was killed.
func (s *Server) Restart() error {
	var err error
	for range 20 { // what the killed one left (shared memory, the socket's lock) goes in a moment
		if err = s.boot(); err == nil {
			return nil
		}
		time.Sleep(200 * time.Millisecond)
	}
	return err
}

func (s *Server) remove() {
	if s.admin != nil {
		_ = s.admin.Close()
	}
	s.mu.Lock()
	pid, exited := s.pid, s.exited
	s.mu.Unlock()
	if pid != 0 {
		_ = syscall.Kill(pid, syscall.SIGCONT)
		_ = syscall.Kill(pid, syscall.SIGQUIT) // PostgreSQL: at once
		if s.Kind == MariaDB {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		select {
		case <-exited:
		case <-time.After(10 * time.Second):
			_ = syscall.Kill(pid, syscall.SIGKILL)
			<-exited
		}
	}
	if err := os.RemoveAll(s.dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		time.Sleep(200 * time.Millisecond) // a process of the server still wrote
		_ = os.RemoveAll(s.dir)
	}
}
