package guestfiles

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/internal/atomicfile"
)

// ReadKept reads what WriteKept wrote; without it the error is os.ErrNotExist.
func ReadKept(path string, kept any) error {
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, kept)
	}
	if err != nil {
		return fmt.Errorf("read the settings of the server: %w", err)
	}
	return nil
}

// WriteKept writes what a driver keeps of a server's settings, for the agent alone: keys of certificates are among it.
func WriteKept(path string, kept any) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write the settings of the server: %w", err)
	}
	data, err := json.Marshal(kept)
	if err != nil {
		return fmt.Errorf("write the settings of the server: %w", err)
	}
	return atomicfile.Write(path, data, 0o600)
}

// KeptTLS is what was asked for of TLS. Its zero value is the state in which a server is made: TLS for those who want it.
type KeptTLS struct {
	Off  bool           `json:"off,omitempty"`
	Mode engine.TLSMode `json:"mode,omitempty"`
	Cert []byte         `json:"cert,omitempty"`
	Key  []byte         `json:"key,omitempty"`
	CA   []byte         `json:"ca,omitempty"`
}

// Equal reports whether the same was asked for.
func (t KeptTLS) Equal(o KeptTLS) bool {
	return t.Off == o.Off && t.Mode == o.Mode && bytes.Equal(t.Cert, o.Cert) && bytes.Equal(t.Key, o.Key) && bytes.Equal(t.CA, o.CA)
}

// Enforced reports whether clients must use TLS.
func (t KeptTLS) Enforced() bool { return t.Mode == engine.TLSEnforced || t.Mode == engine.TLSMutual }

// Shown is what a server has of TLS now, with the certificate of these files.
func (t KeptTLS) Shown(f TLSFiles) (engine.TLS, error) {
	now := engine.TLS{On: !t.Off, Mode: cmp.Or(t.Mode, engine.TLSBuiltin)}
	if t.Off {
		return now, nil
	}
	var err error
	if now.Cert, err = os.ReadFile(f.Cert()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return engine.TLS{}, fmt.Errorf("read the certificate: %w", err)
	}
	return now, nil
}

// Switched is a set of names with one of them in it or not, sorted.
func Switched(names []string, name string, on bool) []string {
	all := slices.DeleteFunc(slices.Clone(names), func(each string) bool { return each == name })
	if on {
		all = append(all, name)
		slices.Sort(all)
	}
	return all
}

// WantedTLS returns what a change asks for; BadRequest if it cannot be used.
func WantedTLS(c engine.TLSChange) (KeptTLS, error) {
	bad := func(err error, format string, args ...any) (KeptTLS, error) {
		return KeptTLS{}, trove.Wrap(trove.KindBadRequest, err, format, args...)
	}
	given := len(c.Cert)+len(c.Key) > 0
	switch {
	case c.Off && (given || len(c.CA) > 0 || c.Mode != ""):
		return bad(nil, "TLS that is off has no certificates and no mode.")
	case c.Off:
		return KeptTLS{Off: true}, nil
	case c.Mode != engine.TLSBasic && c.Mode != engine.TLSEnforced && c.Mode != engine.TLSMutual:
		return bad(nil, "%q is no mode of TLS: there are basic, enforced and mtls.", string(c.Mode))
	case c.Mode == engine.TLSMutual && len(c.CA) == 0:
		return bad(nil, "The mode mtls needs the certificates of the authorities of clients.")
	}
	if given {
		if _, err := tls.X509KeyPair(c.Cert, c.Key); err != nil {
			return bad(err, "The certificate and its key cannot be used.")
		}
	}
	if len(c.CA) > 0 && !x509.NewCertPool().AppendCertsFromPEM(c.CA) {
		return bad(nil, "The certificates of the authorities cannot be used.")
	}
	return KeptTLS{Mode: c.Mode, Cert: c.Cert, Key: c.Key, CA: c.CA}, nil
}
