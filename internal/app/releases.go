package app

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/gateway/grant"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/agentrelease"
	"github.com/trove-dbaas/trove/internal/atomicfile"
	"github.com/trove-dbaas/trove/internal/config"
)

// releaseKeys returns the file with the public keys of those who sign releases of the guest agent. Where the operator has given none, a pair is made in the
// state directory, so that the first steps need no ceremony: whoever can read the directory can sign then, and docs/operators/agents.md says so.
func releaseKeys(s StateDir) ([]byte, error) {
	data, err := os.ReadFile(s.AgentKeys())
	if err == nil {
		return data, nil
	}
	if !os.IsNotExist(err) {
		return nil, fmt.Errorf("read the release keys: %w", err)
	}
	if err := os.MkdirAll(s.Keys(), 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of keys: %w", err)
	}
	if _, err := agentrelease.GenerateKey(strings.TrimSuffix(s.AgentKeys(), ".pub")); err != nil {
		return nil, err
	}
	return os.ReadFile(s.AgentKeys())
}

// SetReleaseKeys makes the public keys of a file those that images are built with and releases are verified with. Images that are there keep theirs.
func SetReleaseKeys(cfg config.Config, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return trove.Wrap(trove.KindBadRequest, err, "The file of release keys %s cannot be read.", file)
	}
	if _, err := agentrelease.ParseKeys(data); err != nil {
		return err
	}
	s := StateDir(cfg.State)
	if err := os.MkdirAll(filepath.Dir(s.AgentKeys()), 0o700); err != nil {
		return fmt.Errorf("make the directory of keys: %w", err)
	}
	return atomicfile.Write(s.AgentKeys(), data, 0o644)
}

// Releases returns the releases of the guest agent that a deployment has.
func Releases(cfg config.Config) agentrelease.Store {
	s := StateDir(cfg.State)
	return agentrelease.Store{Dir: s.Agents(), Keys: func() (agentrelease.Keys, error) { return agentrelease.ReadKeys(s.AgentKeys()) }}
}

// agents are the releases of the guest agent, with grants to read them.
type agents struct {
	agentrelease.Store
	grants *grant.Issuer
}

// grantLife is how long a guest may take to fetch a release; the grant ends with the operation anyway.
const grantLife = 2 * time.Hour

// Grant implements taskmanager.Agents. The gateway reads the releases where they are.
func (a agents) Grant(ctx context.Context, instance, operation string, m agentrelease.Manifest) (guestapi.Grant, error) {
	return a.grants.Issue(ctx, grant.Spec{
		Instance: instance, Container: backupstore.Container{Name: guestapi.AgentContainer}, Method: http.MethodGet,
		Prefix: guestapi.AgentPrefix(m.Version), Life: grantLife, Operation: operation,
	})
}
