package systemd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/trove-dbaas/trove/internal/execx"
)

// Running reports whether systemd is the first process of this machine.
func Running() bool {
	_, err := os.Stat("/run/systemd/system") // what sd_booted(3) looks at
	return err == nil
}

// controlTimeout bounds a call of systemctl: a start waits until the service is ready.
const controlTimeout = 4 * time.Minute

// Control runs systemctl with a verb for units.
func Control(ctx context.Context, verb string, args ...string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, controlTimeout, fmt.Errorf("systemctl %s did not end within %s", verb, controlTimeout))
	defer cancel()
	_, err := execx.Run(ctx, execx.Cmd{Path: "systemctl", Args: append([]string{verb}, args...)})
	if err != nil {
		return fmt.Errorf("tell systemd to %s: %w", verb, err)
	}
	return nil
}

// Says returns what `systemctl is-active` or `is-enabled` says of a unit: "active", "failed", "disabled".
func Says(ctx context.Context, verb, unit string) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := execx.Run(ctx, execx.Cmd{Path: "systemctl", Args: []string{verb, unit}}) // a code other than 0 says no
	if said := strings.TrimSpace(string(out)); said != "" || err == nil {
		return said
	}
	return "unknown"
}

// Ready tells systemd that this process is ready, if systemd started it (Type=notify). Programs that this one starts do not see the socket.
func Ready() error {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return nil
	}
	if err := os.Unsetenv("NOTIFY_SOCKET"); err != nil {
		return fmt.Errorf("tell systemd that the service is ready: %w", err)
	}
	if strings.HasPrefix(socket, "@") {
		socket = "\x00" + socket[1:]
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err == nil {
		_, err = conn.Write([]byte("READY=1"))
		err = errors.Join(err, conn.Close())
	}
	if err != nil {
		return fmt.Errorf("tell systemd that the service is ready: %w", err)
	}
	return nil
}
