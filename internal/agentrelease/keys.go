package agentrelease

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	trove "github.com/trove-dbaas/trove"
)

// Keys are the public keys of those who may sign releases. There are several while one takes the place of another.
type Keys []ed25519.PublicKey

const (
	publicBlock  = "PUBLIC KEY"
	privateBlock = "PRIVATE KEY"
	maxKeyFile   = 64 << 10
	maxKeys      = 16
)

// ParseKeys reads public keys, one PEM block each. No key at all is an error; all errors are of KindBadRequest.
func ParseKeys(data []byte) (Keys, error) {
	if len(data) > maxKeyFile {
		return nil, trove.Errorf(trove.KindBadRequest, "A file of %d bytes holds no release keys.", len(data))
	}
	var keys Keys
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != publicBlock {
			return nil, trove.Errorf(trove.KindBadRequest, "The file of release keys has a block %q: only public keys belong into it.", clip(block.Type))
		}
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, trove.Wrap(trove.KindBadRequest, err, "A release key cannot be read.")
		}
		ed, ok := key.(ed25519.PublicKey)
		if !ok {
			return nil, trove.Errorf(trove.KindBadRequest, "A release key is not of the kind Ed25519.")
		}
		if keys = append(keys, ed); len(keys) > maxKeys {
			return nil, trove.Errorf(trove.KindBadRequest, "There are more than %d release keys.", maxKeys)
		}
	}
	if len(keys) == 0 {
		return nil, trove.Errorf(trove.KindBadRequest, "The file has no release key: it holds PEM blocks %q.", publicBlock)
	}
	return keys, nil
}

// ReadKeys reads a file of public keys. A file that is not there is NotFound.
func ReadKeys(path string) (Keys, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, trove.Wrap(trove.KindNotFound, err, "There are no release keys at %s.", path)
	}
	if err != nil {
		return nil, fmt.Errorf("read the release keys: %w", err)
	}
	return ParseKeys(data)
}

// EncodeKeys writes public keys as ParseKeys reads them.
func EncodeKeys(keys ...ed25519.PublicKey) ([]byte, error) {
	var all []byte
	for _, k := range keys {
		der, err := x509.MarshalPKIXPublicKey(k)
		if err != nil {
			return nil, fmt.Errorf("encode a release key: %w", err)
		}
		all = append(all, pem.EncodeToMemory(&pem.Block{Type: publicBlock, Bytes: der})...)
	}
	return all, nil
}

// GenerateKey makes a key pair: the private one at path, mode 0600, the public one at path with the ending .pub. Files that are there are
// never replaced: that is a Conflict.
func GenerateKey(path string) (ed25519.PublicKey, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a release key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("encode the release key: %w", err)
	}
	pub, err := EncodeKeys(public)
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(path + ".pub"); err == nil {
		return nil, trove.Errorf(trove.KindConflict, "There is a file %s.pub already; choose another name.", path)
	}
	if err := writeNew(path, pem.EncodeToMemory(&pem.Block{Type: privateBlock, Bytes: der}), 0o600); err != nil {
		return nil, err
	}
	return public, writeNew(path+".pub", pub, 0o644)
}

func writeNew(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return trove.Wrap(trove.KindConflict, err, "There is a file %s already; a key is never replaced.", path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(path)))
	}
	return nil
}

// ReadPrivateKey reads a private key. A file that others than its owner may use is refused.
func ReadPrivateKey(path string) (ed25519.PrivateKey, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, trove.Wrap(trove.KindNotFound, err, "The release key %s cannot be read.", path)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 || info.Size() > maxKeyFile {
		return nil, trove.Errorf(trove.KindForbidden, "The release key %s has the mode %v: it must be a file that only its owner may use (chmod 600).", path, info.Mode())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the release key: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != privateBlock {
		return nil, trove.Errorf(trove.KindBadRequest, "The file %s holds no private key.", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, trove.Errorf(trove.KindBadRequest, "The private key in %s cannot be read.", path) // the cause might show a part of it
	}
	ed, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, trove.Errorf(trove.KindBadRequest, "The private key in %s is not of the kind Ed25519.", path)
	}
	return ed, nil
}
