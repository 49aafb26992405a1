package guestagent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// note is what an engine said by sd_notify.
type note struct {
	pid    int
	ready  bool
	status string
}

// notifySocket is the receiving end of sd_notify.
type notifySocket struct {
	conn *net.UnixConn
	uid  int // who may speak, beside this process's own user
	log  *slog.Logger
}

// listenNotify makes the socket, replacing what an earlier agent left. The engine's account may write to it.
func listenNotify(path string, uid, gid int, log *slog.Logger) (*notifySocket, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("make the notify socket: %w", err)
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("make the notify socket: %w", err)
	}
	n := &notifySocket{conn: conn, uid: uid, log: log}
	if err := n.open(path, uid, gid); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("make the notify socket: %w", err)
	}
	return n, nil
}

func (n *notifySocket) open(path string, uid, gid int) error {
	if uid != os.Getuid() {
		if err := os.Chown(path, -1, gid); err != nil {
			return err
		}
	}
	if err := os.Chmod(path, 0o660); err != nil { //nolint:gosec // the engine's group must be able to write
		return err
	}
	raw, err := n.conn.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
	return errors.Join(err, set)
}

// serve hands notes on until the socket is closed. Who speaks is what the kernel says, not what the message does.
func (n *notifySocket) serve(ctx context.Context, notes chan<- note) {
	buf, oob := make([]byte, 4096), make([]byte, 128)
	for {
		size, oobSize, _, _, err := n.conn.ReadMsgUnix(buf, oob)
		if err != nil {
			return
		}
		pid, uid, ok := sender(oob[:oobSize])
		if !ok || (uid != n.uid && uid != os.Getuid()) {
			n.log.WarnContext(ctx, "notification of a stranger was ignored", "uid", uid)
			continue
		}
		msg := parseNote(string(buf[:size]))
		msg.pid = pid
		if !msg.ready && msg.status == "" {
			continue
		}
		select {
		case notes <- msg:
		case <-ctx.Done():
			return
		}
	}
}

func (n *notifySocket) close() { _ = n.conn.Close() }

func sender(oob []byte) (pid, uid int, ok bool) {
	msgs, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return 0, 0, false
	}
	for i := range msgs {
		if cred, err := syscall.ParseUnixCredentials(&msgs[i]); err == nil {
			return int(cred.Pid), int(cred.Uid), true
		}
	}
	return 0, 0, false
}

func parseNote(text string) note {
	var n note
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "READY=1" {
			n.ready = true
		}
		if s, ok := strings.CutPrefix(line, "STATUS="); ok {
			n.status = s
		}
	}
	return n
}
