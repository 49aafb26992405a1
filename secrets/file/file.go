// Package file encrypts secrets under a master key that lies in a file of the controller.
//
// XChaCha20-Poly1305 with a random nonce; the purpose is authenticated with the text. The master key never leaves the process. Whoever has
// the file and the database has the secrets. A Sealer may be used from several goroutines.
package file

import (
	"bufio"
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/keyfile"
	"github.com/trove-dbaas/trove/secrets"
)

// version is the first part of each sealed text.
const version = "v1"

var encoding = base64.RawURLEncoding

// Sealer is a secrets.Sealer.
type Sealer struct {
	current string // the key that seals
	keys    map[string]cipher.AEAD
}

var _ secrets.Sealer = (*Sealer)(nil)

// Open reads the key file, and makes it with a new key if there is none. Each line of it is a key: its id of 8 hexadecimal digits, a space,
// and 32 bytes in base64. The first line seals, all open: a new key is put above the old ones. It is an error if others than the owner of
// the file may use it.
func Open(path string) (*Sealer, error) {
	data, err := keyfile.LoadOrMake(path, makeKey)
	if err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	s := &Sealer{keys: map[string]cipher.AEAD{}}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		id, aead, err := parseKey(lines.Text())
		if err != nil {
			return nil, fmt.Errorf("master key: line %d of %s: %w", n, path, trove.Permanent(err))
		}
		if _, double := s.keys[id]; double {
			return nil, fmt.Errorf("master key: line %d of %s: %w", n, path, trove.Permanent(errors.New("this id is there twice")))
		}
		s.keys[id] = aead
		if s.current == "" {
			s.current = id
		}
	}
	if s.current == "" {
		return nil, fmt.Errorf("master key: %s: %w", path, trove.Permanent(errors.New("the file holds no key")))
	}
	return s, nil
}

func makeKey() ([]byte, error) {
	random := make([]byte, 4+chacha20poly1305.KeySize)
	if _, err := rand.Read(random); err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%s %s\n", hex.EncodeToString(random[:4]), base64.StdEncoding.EncodeToString(random[4:])), nil
}

func parseKey(line string) (string, cipher.AEAD, error) {
	id, text, _ := strings.Cut(strings.TrimSpace(line), " ")
	if raw, err := hex.DecodeString(id); err != nil || len(raw) != 4 {
		return "", nil, errors.New("the key's id is not 8 hexadecimal digits")
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return "", nil, errors.New("the key is not base64") // the cause would show a part of it
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return "", nil, errors.New("the key does not have 32 bytes")
	}
	return id, aead, nil
}

// associated binds a text to its version, key and purpose.
func associated(id, purpose string) []byte {
	return []byte("trove secret " + version + "\x00" + id + "\x00" + purpose)
}

// Seal implements secrets.Sealer.
func (s *Sealer) Seal(_ context.Context, purpose string, plain trove.Secret) (string, error) {
	if purpose == "" {
		return "", trove.Permanent(errors.New("seal a secret: a purpose is needed"))
	}
	nonce := make([]byte, chacha20poly1305.NonceSizeX, chacha20poly1305.NonceSizeX+len(plain)+chacha20poly1305.Overhead)
	if _, err := rand.Read(nonce); err != nil {
		return "", fmt.Errorf("seal a secret: %w", err)
	}
	sealed := s.keys[s.current].Seal(nonce, nonce, []byte(plain.Reveal()), associated(s.current, purpose))
	return version + "." + s.current + "." + encoding.EncodeToString(sealed), nil
}

// Open implements secrets.Sealer.
func (s *Sealer) Open(_ context.Context, purpose, sealed string) (trove.Secret, error) {
	parts := strings.Split(sealed, ".")
	if len(parts) != 3 || parts[0] != version {
		return "", trove.Permanent(errors.New("open a secret: the text is not a sealed one"))
	}
	aead, ok := s.keys[parts[1]]
	if !ok {
		return "", trove.Permanent(fmt.Errorf("open a secret: it was sealed under the key %.8q, which is not in the key file", parts[1]))
	}
	data, err := encoding.DecodeString(parts[2])
	if err != nil || len(data) < chacha20poly1305.NonceSizeX {
		return "", trove.Permanent(errors.New("open a secret: the text is damaged"))
	}
	nonce, text := data[:chacha20poly1305.NonceSizeX], data[chacha20poly1305.NonceSizeX:]
	plain, err := aead.Open(nil, nonce, text, associated(parts[1], purpose))
	if err != nil {
		return "", trove.Permanent(errors.New("open a secret: the text is damaged or was sealed for another purpose"))
	}
	return trove.Secret(plain), nil
}
