package app

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/identity/local"
	"github.com/trove-dbaas/trove/internal/atomicfile"
)

// account is a user of a new deployment.
type account struct {
	user, project string
	roles         []string
	suffix        string // of the openrc file and the cloud's name
}

// accounts are what a local deployment starts with: a user for every day and an administrator.
var accounts = []account{
	{"demo", "demo", []string{"member"}, ""},
	{"admin", "admin", []string{"admin", "member"}, "-admin"},
}

func newPassword() trove.Secret {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return trove.Secret(hex.EncodeToString(b[:]))
}

// ensureAccounts makes the accounts and writes the files with which clients log in, unless this is a further api: they name the first. It may be repeated.
func (c *controllers) ensureAccounts(ctx context.Context, id *local.Service, url, bin string) error {
	s, region, further := c.state, c.cfg.Region, c.runs.Name != ""
	var clouds strings.Builder
	clouds.WriteString("clouds:\n")
	for _, a := range accounts {
		password, err := c.accountPassword(ctx, a.user)
		if err != nil {
			return err
		}
		if _, _, err := id.EnsureAccount(ctx, a.user, password, a.project, a.roles...); err != nil {
			return fmt.Errorf("make the account %s: %w", a.user, err)
		}
		if further {
			continue
		}
		if err := atomicfile.Write(s.Path("openrc"+a.suffix), []byte(openrc(a, password, url, region, bin)), 0o600); err != nil {
			return err
		}
		fmt.Fprintf(&clouds, cloudsEntry, "trove"+a.suffix, url, a.user, password.Reveal(), a.project, region)
	}
	if further {
		return nil
	}
	return atomicfile.Write(s.Path("clouds.yaml"), []byte(clouds.String()), 0o600)
}

const cloudsEntry = `  %s:
    auth:
      auth_url: %s/identity/v3
      username: %s
      password: %s
      project_name: %s
      user_domain_name: Default
      project_domain_name: Default
    region_name: %s
    identity_api_version: 3
`

func openrc(a account, password trove.Secret, url, region, bin string) string {
	return fmt.Sprintf(`# Source this file: it says where the service is and who asks, and finds the trove program.
unset OS_CLOUD OS_TOKEN OS_PROJECT_ID OS_ENDPOINT
export OS_AUTH_URL=%s/identity/v3
export OS_IDENTITY_API_VERSION=3
export OS_USERNAME=%s
export OS_PASSWORD=%s
export OS_PROJECT_NAME=%s
export OS_USER_DOMAIN_NAME=Default
export OS_PROJECT_DOMAIN_NAME=Default
export OS_REGION_NAME=%s
case ":$PATH:" in *:"%[6]s":*) ;; *) export PATH="%[6]s:$PATH" ;; esac
`, url, a.user, password.Reveal(), a.project, region, bin)
}
