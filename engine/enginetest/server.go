package enginetest

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/internal/execx"
)

// startTimeout is how long a server may take to say that it is ready.
const startTimeout = 60 * time.Second

// Server is a running engine: what the agent does, in small.
type Server struct {
	t     testing.TB
	s     Setup
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process has ended
}

// Start runs the driver's command, waits for its readiness in the way that the command names, and calls Ready. The test's end stops it.
func Start(t testing.TB, s Setup) *Server {
	t.Helper()
	c, err := s.Engine.Command(s.Layout)
	must(t, err)
	srv := &Server{t: t, s: s, ended: make(chan struct{})}
	env := c.Env
	var notify *net.UnixConn
	if c.Notify {
		path := filepath.Join(s.Layout.Runtime, "notify")
		notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		must(t, err)
		defer func() { _, _ = notify.Close(), os.Remove(path) }()
		must(t, os.Chmod(path, 0o666))
		env = append(env, "NOTIFY_SOCKET="+path)
	}
	var attr *syscall.SysProcAttr
	if os.Geteuid() == 0 {
		attr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(c.UID), Gid: uint32(c.GID)}}
	}
	srv.cmd = execx.Command(context.WithoutCancel(t.Context()), execx.Cmd{Path: c.Path, Args: c.Args, Env: env, Dir: c.Dir, Attr: attr})
	must(t, srv.cmd.Start())
	go func() {
		_ = srv.cmd.Wait()
		close(srv.ended)
	}()
	t.Cleanup(srv.Stop)
	deadline := time.Now().Add(startTimeout)
	for !srv.answers(notify) {
		select {
		case <-srv.ended:
			t.Fatalf("the server ended at its start; its log:\n%s", tail(c.LogFile))
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server was not ready within %v; its log:\n%s", startTimeout, tail(c.LogFile))
		}
	}
	if err := s.Engine.Ready(t.Context(), s.Layout); err != nil {
		t.Fatalf("Ready: %v; the server's log:\n%s", err, tail(c.LogFile))
	}
	must(t, s.Engine.Ping(t.Context(), s.Layout))
	return srv
}

// answers waits a moment for the sign of readiness.
func (srv *Server) answers(notify *net.UnixConn) bool {
	const moment = 50 * time.Millisecond
	if notify == nil {
		if srv.s.Engine.Ping(srv.t.Context(), srv.s.Layout) == nil {
			return true
		}
		select {
		case <-srv.ended:
		case <-time.After(moment):
		}
		return false
	}
	buf := make([]byte, 4096)
	_ = notify.SetReadDeadline(time.Now().Add(moment))
	n, err := notify.Read(buf)
	return err == nil && strings.Contains("\n"+string(buf[:n])+"\n", "\nREADY=1\n")
}

// Stop ends the server cleanly; it may be called again.
func (srv *Server) Stop() {
	srv.t.Helper()
	stop := srv.s.Engine.Info().StopSignal
	if stop == 0 {
		stop = syscall.SIGTERM
	}
	if err := srv.cmd.Process.Signal(stop); err != nil && !errors.Is(err, os.ErrProcessDone) {
		srv.t.Errorf("stop the server: %v", err)
	}
	select {
	case <-srv.ended:
	case <-time.After(srv.s.Engine.Info().StopTimeout):
		srv.t.Errorf("the server did not stop within %v", srv.s.Engine.Info().StopTimeout)
		_ = srv.cmd.Process.Kill()
		<-srv.ended
	}
}

func tail(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-4096):])
}
