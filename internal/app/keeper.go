package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/atomicfile"
	"github.com/trove-dbaas/trove/internal/sealedkeys"
	"github.com/trove-dbaas/trove/secrets/barbican"
	secretsfile "github.com/trove-dbaas/trove/secrets/file"
	"github.com/trove-dbaas/trove/secrets/keyring"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

// The keys of a deployment are in its store, sealed under the master key: a host needs the store's address and a copy of the master key, nothing else. Releases
// before kept them as files of the same names.
var (
	keyFiles      = []string{"bus.json", "bus-ca.pem", "grants.json"}
	passwordFiles = []string{"password-demo", "password-admin"} // of the first accounts; an operator may put new ones there
)

// openSealer opens the master key, which is made with the first start of the deployment, not of a host.
func (s StateDir) openSealer(ctx context.Context, st *sqlstore.Store, file string) (keyring.Master, error) {
	if !exists(file) {
		kept, err := st.KeyMaterial(ctx)
		if err != nil {
			return nil, err
		}
		if len(kept) > 0 {
			return nil, trove.Errorf(trove.KindNotFound,
				"There is no master key at %s, and the keys of this deployment are sealed under one. Copy the file from a host where the service runs, or from where it is kept.", file)
		}
	}
	return secretsfile.Open(file)
}

// inBarbican says why it matters that OpenStack cannot be asked.
func inBarbican(err error) error {
	return trove.Wrap(trove.KindOf(err), err, "The master key is in Barbican, and nothing can be opened without it: %s", trove.MessageOf(err))
}

// openMaster opens the master key, wherever it is.
func (c *controllers) openMaster(ctx context.Context) (keyring.Master, error) {
	name := c.cfg.Secrets.BarbicanName()
	if name == "" {
		return c.state.openSealer(ctx, c.store, c.state.MasterKey())
	}
	session, err := c.openStackSession(ctx)
	if err != nil {
		return nil, inBarbican(err)
	}
	cfg := barbican.Config{Session: session, Name: name, Clock: c.clock}
	m, err := barbican.Open(ctx, cfg)
	if !trove.IsNotFound(err) {
		return m, err
	}
	kept, kerr := c.store.KeyMaterial(ctx)
	if kerr != nil {
		return nil, kerr
	}
	if len(kept) > 0 {
		return nil, trove.Wrap(trove.KindNotFound, err,
			"There is no master key named %s in Barbican, and the keys of this deployment are sealed under one. Where it is in a file, copy it with: trove manage key copy barbican:%s", name, name)
	}
	return barbican.Make(ctx, cfg)
}

// openKeeper reads the keys of the deployment.
func openKeeper(ctx context.Context, st *sqlstore.Store, sealer keyring.Master, log *slog.Logger) (*sealedkeys.Keys, error) {
	k, err := sealedkeys.Open(ctx, st, sealer, log)
	if trove.IsPermanent(err) {
		return nil, trove.Wrap(trove.KindForbidden, err,
			"The master key %s does not open the keys of this deployment: it is another deployment's, or an old copy (%v). Copy the file from a host where the service runs.",
			sealer.Where(), err)
	}
	return k, err
}

// openKeys opens the master key and the keys of the deployment, and takes over the files of an earlier release.
func (c *controllers) openKeys(ctx context.Context) (err error) {
	if c.sealer, err = c.openMaster(ctx); err != nil {
		return err
	}
	if c.keys, err = openKeeper(ctx, c.store, c.sealer, c.log); err != nil {
		return err
	}
	for names, wins := range map[*[]string]bool{&keyFiles: false, &passwordFiles: true} {
		for _, name := range *names {
			took, err := c.keys.TakeOver(ctx, c.state.Keys(), name, wins)
			if err != nil {
				return err
			}
			if took {
				c.log.InfoContext(ctx, "a key file was taken over into the store", "file", name)
			}
		}
	}
	return c.shareReleaseKeys(ctx)
}

// shareReleaseKeys lets hosts that have no release keys of the guest agent have those of the first one that had some. They stay files: tools that sign
// releases read them.
func (c *controllers) shareReleaseKeys(ctx context.Context) error {
	public := filepath.Base(c.state.AgentKeys())
	private := public[:len(public)-len(filepath.Ext(public))]
	if !exists(c.state.AgentKeys()) && exists(filepath.Join(c.state.Keys(), private)) {
		return nil // something is wrong with this pair, and whoever uses it says what
	}
	here := exists(c.state.AgentKeys())
	for name, mode := range map[string]fs.FileMode{private: 0o600, public: 0o644} {
		path := filepath.Join(c.state.Keys(), name)
		if here {
			data, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue // operators who sign elsewhere have the public half only
			}
			if err == nil {
				_, err = c.keys.LoadOrMake(ctx, name, func() ([]byte, error) { return data, nil })
			}
			if err != nil {
				return fmt.Errorf("share the release keys: %w", err)
			}
			continue
		}
		data, _, err := c.keys.Load(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = atomicfile.Write(path, data, mode)
		}
		if err != nil {
			return fmt.Errorf("take the release keys of the deployment: %w", err)
		}
	}
	return nil
}

// accountPassword returns the password of one of the first accounts, made with the first start of the deployment.
func (c *controllers) accountPassword(ctx context.Context, user string) (trove.Secret, error) {
	data, err := c.keys.LoadOrMake(ctx, "password-"+user, func() ([]byte, error) { return []byte(newPassword().Reveal()), nil })
	return trove.Secret(firstLine(data)), err
}
