package cli

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
)

// trust is what is known of an instance's TLS before a client connects.
type trust struct {
	tls         bool
	port        int    // where TLS is spoken, if it is a port of its own
	authorities string // PEM, to verify the certificate with; "": it is not verified
	doubt       string // what is not verified
}

// secured is what a client is told for TLS.
type secured struct {
	args []string
	env  []string // NAME=value
}

// trustIn asks how TLS of an instance is. Who it cannot be learned for is let in with --no-verify alone: somebody on the way could have kept the answer back.
func (a *app) trustIn(ctx context.Context, c *client.Client, i wire.Instance, noVerify bool) (trust, error) {
	now, err := c.SSL(ctx, i.ID, true)
	if noVerify {
		return trust{tls: err == nil && now.Status == "on", port: now.TLSPort, doubt: fmt.Sprintf("The certificate of %s is not verified.", i.Name)}, nil
	}
	if err != nil {
		return trust{}, fmt.Errorf("learn how the certificate of %s is verified, --no-verify connects without it: %w", i.Name, err)
	}
	if now.Status != "on" || now.Certificate == nil {
		return trust{doubt: fmt.Sprintf("TLS of %s is off: nothing is verified, and what is sent can be read on the way. To switch it on: trove ssl enable %s", i.Name, i.Name)}, nil
	}
	t := trust{tls: true, port: now.TLSPort, authorities: now.Certificate.Authorities}
	if t.authorities == "" {
		t.doubt = fmt.Sprintf("%s shows a certificate that the service did not make: it is not verified.", i.Name)
	}
	return t, nil
}

// secureMySQL asks the program which of the two it is: Debian's mysql is MariaDB's, and neither knows the other's options.
func (a *app) secureMySQL(ctx context.Context, path, authorities string) (secured, error) {
	version, err := a.env.Output(ctx, path, "--version")
	if err != nil {
		return secured{}, trove.Wrap(trove.KindInternal, err, "%s does not tell its version.", path)
	}
	maria := strings.Contains(version, "MariaDB")
	switch {
	case authorities == "" && maria:
		return secured{args: []string{"--ssl", "--skip-ssl-verify-server-cert"}}, nil
	case authorities == "":
		return secured{args: []string{"--ssl-mode=REQUIRED"}}, nil
	}
	file, err := handOver(authorities)
	if err != nil {
		return secured{}, err
	}
	if maria {
		return secured{args: []string{"--ssl-ca=" + file, "--ssl-verify-server-cert"}}, nil
	}
	return secured{args: []string{"--ssl-ca=" + file, "--ssl-mode=VERIFY_IDENTITY"}}, nil
}

func (a *app) securePostgreSQL(_ context.Context, _, authorities string) (secured, error) {
	if authorities == "" {
		return secured{env: []string{"PGSSLMODE=require"}}, nil
	}
	file, err := handOver(authorities)
	return secured{env: []string{"PGSSLMODE=verify-full", "PGSSLROOTCERT=" + file}}, err
}

func (a *app) secureRedis(_ context.Context, _, authorities string) (secured, error) {
	if authorities == "" {
		return secured{args: []string{"--tls", "--insecure"}}, nil
	}
	file, err := handOver(authorities)
	return secured{args: []string{"--tls", "--cacert", file}}, err
}

// handOver writes a file that this process and what replaces it read by the name that is returned. It has no other name any more, so that nothing is left
// however the client ends.
func handOver(text string) (string, error) {
	f, err := os.CreateTemp("", "trove-authorities-*")
	if err != nil {
		return "", fmt.Errorf("write the authorities' certificates: %w", err)
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return "", fmt.Errorf("write the authorities' certificates: %w", err)
	}
	if _, err := f.WriteString(text); err != nil {
		return "", fmt.Errorf("write the authorities' certificates: %w", err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		return "", fmt.Errorf("write the authorities' certificates: %w", err)
	}
	kept, err := syscall.Dup(int(f.Fd())) // stays open in the program that replaces this one
	if err != nil {
		return "", fmt.Errorf("hand the authorities' certificates over: %w", err)
	}
	return "/dev/fd/" + strconv.Itoa(kept), nil
}
