package natsbus

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/internal/atomicfile"
	"github.com/trove-dbaas/trove/internal/keyfile"
)

// The files of a guest's identity, all of mode 0600.
const (
	keyFile        = "guest.nk"        // the seed of the guest's nkey
	enrolmentFile  = "enrolment.json"  // for which instance, and where to renew
	credentialFile = "credential.json" //nolint:gosec // the name of a file: bus.Credential, replaced as a whole
)

// enrolment is what stays of bus.BootData.
type enrolment struct {
	Instance  string   `json:"instance"`
	EnrolURLs []string `json:"enrol_urls"`
	CABundle  string   `json:"ca_bundle"`
	// Anew says that the machine was made anew since the credential came: what its boot data tells is newer than what that one does.
	Anew bool `json:"anew,omitempty"`
}

// keep writes the enrolment.
func (e enrolment) keep(dir string) error {
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode the enrolment: %w", err)
	}
	return atomicfile.Write(filepath.Join(dir, enrolmentFile), data, 0o600)
}

// identity is a guest's identity in its directory.
type identity struct {
	dir  string
	key  nkeys.KeyPair
	dial DialFunc // to controllers
	enrolment
	anew atomic.Bool // enrolment.Anew, until a credential comes
	had  bool        // it has its key from before: it may have enrolled with it
}

// openIdentity reads the identity. It is fs.ErrNotExist if the guest has not enrolled.
func openIdentity(dir string) (*identity, error) {
	var e enrolment
	if err := readJSON(filepath.Join(dir, enrolmentFile), &e); err != nil {
		return nil, err
	}
	key, err := openKey(dir)
	if err != nil {
		return nil, err
	}
	id := &identity{dir: dir, key: key, dial: orDialer(nil), enrolment: e}
	id.anew.Store(e.Anew)
	return id, nil
}

func openKey(dir string) (nkeys.KeyPair, error) {
	seed, err := keyfile.LoadOrMake(filepath.Join(dir, keyFile), func() ([]byte, error) {
		pair, err := nkeys.CreateUser()
		if err != nil {
			return nil, err
		}
		return pair.Seed()
	})
	if err != nil {
		return nil, err
	}
	pair, err := nkeys.FromSeed(seed)
	if err != nil {
		return nil, fmt.Errorf("read the guest's key: %w", trove.Permanent(err))
	}
	return pair, nil
}

func (id *identity) publicKey() (string, error) { return id.key.PublicKey() }

func (id *identity) credential() (bus.Credential, error) {
	var c bus.Credential
	if err := readJSON(filepath.Join(id.dir, credentialFile), &c); err != nil {
		return bus.Credential{}, err
	}
	return c, nil
}

// check refuses a credential that is none for this guest's key or names nobody to trust: it would cut the guest off for good.
func (id *identity) check(c bus.Credential) error {
	public, err := id.publicKey()
	if err != nil {
		return err
	}
	claims, err := jwt.DecodeUserClaims(c.JWT)
	switch {
	case err != nil:
		return trove.Wrap(trove.KindBadRequest, err, "The credential cannot be read.")
	case claims.Subject != public || claims.Name != id.Instance:
		return trove.Errorf(trove.KindBadRequest, "The credential is for another guest.")
	case len(c.Addresses) == 0:
		return trove.Errorf(trove.KindBadRequest, "The credential names no address of the bus.")
	}
	_, err = pool(c.CABundle)
	return err
}

// store checks and keeps a credential.
func (id *identity) store(c bus.Credential) error {
	if err := id.check(c); err != nil {
		return err
	}
	data, err := json.Marshal(c) //nolint:gosec // the JWT is worth nothing without the key
	if err != nil {
		return fmt.Errorf("encode the credential: %w", err)
	}
	if err := atomicfile.Write(filepath.Join(id.dir, credentialFile), data, 0o600); err != nil || !id.anew.Swap(false) {
		return err
	}
	e := id.enrolment
	e.Anew = false
	return e.keep(id.dir)
}

// lifetime returns when the credential was issued and when it expires, from the JWT itself.
func lifetime(c bus.Credential) (issued, expires time.Time, err error) {
	claims, err := jwt.DecodeUserClaims(c.JWT)
	if err != nil {
		return time.Time{}, time.Time{}, fmt.Errorf("read the credential: %w", trove.Permanent(err))
	}
	return time.Unix(claims.IssuedAt, 0), time.Unix(claims.Expires, 0), nil
}

// issuedAt is the controller's time when it issued the credential; zero if it cannot be read.
func issuedAt(c bus.Credential) time.Time {
	issued, _, err := lifetime(c)
	if err != nil {
		return time.Time{}
	}
	return issued
}

func pool(bundle string) (*x509.CertPool, error) {
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM([]byte(bundle)) {
		return nil, trove.Errorf(trove.KindBadRequest, "The CA bundle holds no certificate.")
	}
	return p, nil
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the guest's identity: %w", err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("read the guest's identity from %s: %w", path, trove.Permanent(err))
	}
	return nil
}

// beginEnrolment prepares the directory for an instance. Files of another instance (a volume that was copied) are dropped: its key
// must not be used by two.
func beginEnrolment(dir string, boot bus.BootData) (id *identity, done bool, err error) {
	if !trove.ValidID(boot.Instance) {
		return nil, false, trove.Errorf(trove.KindBadRequest, "%q is not the id of an instance.", boot.Instance)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, false, fmt.Errorf("make the directory of the guest's identity: %w", err)
	}
	had := false
	id, err = openIdentity(dir)
	if err == nil && id.Instance == boot.Instance {
		if _, err := id.credential(); err == nil {
			return id, true, id.rebooted(boot)
		}
		had = true // one that is lost or damaged is asked for again
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	if id != nil && id.Instance != boot.Instance {
		for _, name := range []string{credentialFile, keyFile} {
			if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, false, fmt.Errorf("drop the identity of another instance: %w", err)
			}
		}
	}
	e := enrolment{Instance: boot.Instance, EnrolURLs: boot.EnrolURLs, CABundle: boot.CABundle}
	if err := e.keep(dir); err != nil {
		return nil, false, err
	}
	if id, err = openIdentity(dir); err == nil {
		id.had = had
	}
	return id, false, err
}

// rebooted takes in the boot data of a machine that was made anew around a guest that has enrolled. A machine that only started again has the one that it had.
func (id *identity) rebooted(boot bus.BootData) error {
	_, err := pool(boot.CABundle)
	if err != nil || len(boot.EnrolURLs) == 0 || id.CABundle == boot.CABundle && slices.Equal(id.EnrolURLs, boot.EnrolURLs) {
		return nil //nolint:nilerr // there is what the guest had before
	}
	return enrolment{Instance: boot.Instance, EnrolURLs: boot.EnrolURLs, CABundle: boot.CABundle, Anew: true}.keep(id.dir)
}
