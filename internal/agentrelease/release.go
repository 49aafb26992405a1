// Package agentrelease is the format of a release of the guest agent: the program, a manifest that says which one it is, and an Ed25519 signature
// over the exact bytes of the manifest.
//
// A release is a directory with three files. Keys are PEM as OpenSSL writes them (PKCS #8 and SubjectPublicKeyInfo), and the signature is the plain 64
// bytes, so that a machine without this program, or a hardware token, can sign too. Nothing in a release is believed before Verify has
// returned its manifest, and nothing of the program before its hash has been compared with that.
//
// Unknown fields of a manifest are ignored: a later release may have more. Functions may be called from several goroutines.
package agentrelease

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"time"

	trove "github.com/trove-dbaas/trove"
)

// The files of a release's directory.
const (
	ProgramFile   = "trove-guestagent"
	ManifestFile  = "manifest.json"
	SignatureFile = "manifest.sig"
)

// Name is what every manifest says that it is about: a signature over anything else made with the same key is no release.
const Name = "trove-guestagent"

// Limits on what is read before it is believed, in bytes.
const (
	MaxManifest = 4 << 10
	MaxProgram  = 128 << 20
)

// Manifest says which program a release is.
type Manifest struct {
	Name    string    `json:"name"`
	Version string    `json:"version"` // MAJOR.MINOR.PATCH
	OS      string    `json:"os"`      // as Go names it
	Arch    string    `json:"arch"`    // as Go names it
	Size    int64     `json:"size"`    // of the program, in bytes
	SHA256  string    `json:"sha256"`  // of the program, in hexadecimal
	Created time.Time `json:"created"`
}

// Signed is a manifest as it was signed.
type Signed struct {
	Manifest  []byte `json:"manifest"`
	Signature []byte `json:"signature"`
}

// Ordinal returns the manifest's version in its order.
func (m Manifest) Ordinal() Version { return VersionOf(m.Version) }

// Parse reads a manifest without knowing who wrote it. An error is of KindUnprocessable.
func Parse(data []byte) (Manifest, error) {
	var m Manifest
	if len(data) > MaxManifest {
		return m, refuse("The manifest has %d bytes, more than %d.", len(data), MaxManifest)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&m); err != nil {
		return Manifest{}, trove.Wrap(trove.KindUnprocessable, err, "The manifest cannot be read.")
	}
	if _, err := dec.Token(); err != io.EOF {
		return Manifest{}, refuse("The manifest has something behind its end.")
	}
	if err := m.check(); err != nil {
		return Manifest{}, err
	}
	return m, nil
}

func (m Manifest) check() error {
	if m.Name != Name {
		return refuse("The manifest is about %q and not about %s.", clip(m.Name), Name)
	}
	if _, err := ParseVersion(m.Version); err != nil {
		return trove.Wrap(trove.KindUnprocessable, err, "The manifest's version %q is none: it has the form 1.2.3.", clip(m.Version))
	}
	if m.Size <= 0 || m.Size > MaxProgram {
		return refuse("The manifest's size of %d bytes cannot be that of the program.", m.Size)
	}
	if sum, err := hex.DecodeString(m.SHA256); err != nil || len(sum) != 32 || hex.EncodeToString(sum) != m.SHA256 {
		return refuse("The manifest has no SHA-256 in lower-case hexadecimal.")
	}
	if !word(m.OS) || !word(m.Arch) {
		return refuse("The manifest does not say which system and processor the program is for.")
	}
	return nil
}

func word(s string) bool {
	if s == "" || len(s) > 32 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// Verify returns the manifest if one of the keys signed it. An error is of KindUnprocessable, with a sentence.
func Verify(keys Keys, s Signed) (Manifest, error) {
	if len(keys) == 0 {
		return Manifest{}, refuse("There is no key that could verify a release of the guest agent.")
	}
	if len(s.Manifest) > MaxManifest {
		return Manifest{}, refuse("The manifest has %d bytes, more than %d.", len(s.Manifest), MaxManifest)
	}
	if len(s.Signature) == 0 {
		return Manifest{}, refuse("The release of the guest agent is not signed.")
	}
	for _, k := range keys {
		if len(s.Signature) == ed25519.SignatureSize && ed25519.Verify(k, s.Manifest, s.Signature) {
			return Parse(s.Manifest)
		}
	}
	return Manifest{}, refuse("The signature of the guest agent's release is not by a key that is trusted here, or the manifest was changed.")
}

// Sign makes the release's manifest and signs it.
func Sign(key ed25519.PrivateKey, m Manifest) (Signed, error) {
	m.Name = Name
	if err := m.check(); err != nil {
		return Signed{}, err
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return Signed{}, fmt.Errorf("write the manifest: %w", err)
	}
	data = append(data, '\n')
	return Signed{Manifest: data, Signature: ed25519.Sign(key, data)}, nil
}

func refuse(format string, args ...any) error {
	return trove.Errorf(trove.KindUnprocessable, format, args...)
}
