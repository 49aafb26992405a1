// Package keyring seals texts under master keys, wherever those are kept.
//
// XChaCha20-Poly1305 with random nonces. Each text has a data key of its own, which is wrapped under the master key; the purpose is authenticated with the
// text. So the master key can be replaced without opening a secret: Rewrap wraps the data key again. A Ring does not change and may be used from several goroutines.
package keyring

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"

	trove "github.com/trove-dbaas/trove"
)

// The first part of sealed texts. The first version had no data keys: what it sealed opens, and is sealed anew when the master key is replaced.
const (
	version      = "sealed2"
	firstVersion = "v1"
)

// Marker is what every sealed text begins with; texts of the first version begin with "v1." instead.
const Marker = version + "."

var encoding = base64.RawURLEncoding.Strict()

// sealedText finds sealed texts inside another text, such as JSON.
var sealedText = regexp.MustCompile(`\b(?:sealed2\.[0-9a-f]{8}\.[A-Za-z0-9_-]{96}\.[A-Za-z0-9_-]{54,}|v1\.[0-9a-f]{8}\.[A-Za-z0-9_-]{54,})`)

// associated binds a text to its version, what it is and its purpose.
func associated(version, id, purpose string) []byte {
	return []byte("trove secret " + version + "\x00" + id + "\x00" + purpose)
}

// wrapping is what a data key is bound to; no purpose is empty or has a zero byte in front.
func wrapping(id string) []byte { return associated(version, id, "\x00data key") }

func encrypt(aead cipher.AEAD, plain, associated []byte) ([]byte, error) {
	nonce := make([]byte, chacha20poly1305.NonceSizeX, chacha20poly1305.NonceSizeX+len(plain)+chacha20poly1305.Overhead)
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	return aead.Seal(nonce, nonce, plain, associated), nil
}

var errDamaged = errors.New("the text is damaged or was sealed for another purpose")

func decrypt(aead cipher.AEAD, text string, associated []byte) ([]byte, error) {
	data, err := encoding.DecodeString(text)
	if err != nil || len(data) < chacha20poly1305.NonceSizeX {
		return nil, errDamaged
	}
	plain, err := aead.Open(nil, data[:chacha20poly1305.NonceSizeX], data[chacha20poly1305.NonceSizeX:], associated)
	if err != nil {
		return nil, errDamaged
	}
	return plain, nil
}

// Seal returns a text that opens for the purpose only.
func (r *Ring) Seal(purpose string, plain trove.Secret) (string, error) {
	if purpose == "" {
		return "", trove.Permanent(errors.New("seal a secret: a purpose is needed"))
	}
	text, err := r.seal(purpose, []byte(plain.Reveal()))
	if err != nil {
		return "", fmt.Errorf("seal a secret: %w", err)
	}
	return text, nil
}

func (r *Ring) seal(purpose string, plain []byte) (string, error) {
	data := make([]byte, chacha20poly1305.KeySize)
	if _, err := rand.Read(data); err != nil {
		return "", err
	}
	aead, err := chacha20poly1305.NewX(data)
	if err != nil {
		return "", err
	}
	id := r.current()
	wrapped, err := encrypt(r.aead[id], data, wrapping(id))
	if err != nil {
		return "", err
	}
	text, err := encrypt(aead, plain, associated(version, "", purpose))
	if err != nil {
		return "", err
	}
	return strings.Join([]string{version, id, encoding.EncodeToString(wrapped), encoding.EncodeToString(text)}, "."), nil
}

// Open is the reverse. Its errors are permanent.
func (r *Ring) Open(purpose, sealed string) (trove.Secret, error) {
	plain, err := r.open(purpose, sealed)
	if err != nil {
		return "", trove.Permanent(fmt.Errorf("open a secret: %w", err))
	}
	return trove.Secret(plain), nil
}

// Knows reports whether all keys that texts inside this one are sealed under are in the ring.
func (r *Ring) Knows(text string) bool {
	for _, id := range KeysIn(text) {
		if r.aead[id] == nil {
			return false
		}
	}
	return true
}

func (r *Ring) open(purpose, sealed string) ([]byte, error) {
	parts := strings.Split(sealed, ".")
	if len(parts) < 3 {
		return nil, errors.New("the text is not a sealed one")
	}
	aead, ok := r.aead[parts[1]]
	switch {
	case parts[0] == firstVersion && len(parts) == 3 && ok:
		return decrypt(aead, parts[2], associated(firstVersion, parts[1], purpose))
	case parts[0] == version && len(parts) == 4 && ok:
	case (parts[0] == version || parts[0] == firstVersion) && !ok:
		return nil, fmt.Errorf("it was sealed under the key %.8q, which is not known", parts[1])
	default:
		return nil, errors.New("the text is not a sealed one")
	}
	data, err := decrypt(aead, parts[2], wrapping(parts[1]))
	if err != nil {
		return nil, err
	}
	own, err := chacha20poly1305.NewX(data)
	if err != nil {
		return nil, errDamaged
	}
	return decrypt(own, parts[3], associated(version, "", purpose))
}

// Rewrap returns a text in which everything sealed is under the current master key, and says whether that changed anything. What is sealed may be
// anywhere in the text. Texts of the first version are tried with the purposes. Something that looks sealed and does not open is left as it is.
func (r *Ring) Rewrap(text string, purposes ...string) (string, bool) {
	changed := false
	out := sealedText.ReplaceAllStringFunc(text, func(sealed string) string {
		again, err := r.rewrap(sealed, purposes)
		if err != nil || again == sealed {
			return sealed
		}
		changed = true
		return again
	})
	return out, changed
}

func (r *Ring) rewrap(sealed string, purposes []string) (string, error) {
	parts := strings.Split(sealed, ".")
	if parts[0] == firstVersion {
		for _, p := range purposes {
			if plain, err := r.open(p, sealed); err == nil {
				return r.seal(p, plain)
			}
		}
		return "", errDamaged
	}
	id := r.current()
	old, ok := r.aead[parts[1]]
	if !ok {
		return "", errDamaged
	}
	if parts[1] == id {
		return sealed, nil
	}
	data, err := decrypt(old, parts[2], wrapping(parts[1]))
	if err != nil {
		return "", err
	}
	wrapped, err := encrypt(r.aead[id], data, wrapping(id))
	if err != nil {
		return "", err
	}
	parts[1], parts[2] = id, encoding.EncodeToString(wrapped)
	return strings.Join(parts, "."), nil
}

// KeysIn returns the ids of the master keys that texts inside this one are sealed under.
func KeysIn(text string) []string {
	var ids []string
	for _, sealed := range sealedText.FindAllString(text, -1) {
		ids = append(ids, strings.Split(sealed, ".")[1])
	}
	return ids
}
