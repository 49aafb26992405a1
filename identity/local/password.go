package local

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"

	trove "github.com/trove-dbaas/trove"
)

// argon2id with OWASP's first recommendation for it: 19 MiB, two passes, one lane.
const (
	argonMemory  = 19 * 1024 // KiB
	argonTime    = 2
	argonThreads = 1
	argonKey     = 32
	argonSalt    = 16
)

// hasher limits how many hashes are computed at once: each takes 19 MiB, and anyone who can reach the port can ask for one.
type hasher struct{ slots chan struct{} }

func newHasher() *hasher { return &hasher{slots: make(chan struct{}, 2)} }

func (h *hasher) key(ctx context.Context, password trove.Secret, salt []byte) ([]byte, error) {
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-ctx.Done():
		return nil, trove.Wrap(trove.KindUnavailable, context.Cause(ctx), "The service is busy checking other passwords; try again.")
	}
	return argon2.IDKey([]byte(password.Reveal()), salt, argonTime, argonMemory, argonThreads, argonKey), nil
}

// hash returns the password's hash in PHC format.
func (h *hasher) hash(ctx context.Context, password trove.Secret) (string, error) {
	salt := make([]byte, argonSalt)
	_, _ = rand.Read(salt)
	key, err := h.key(ctx, password, salt)
	if err != nil {
		return "", err
	}
	enc := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonThreads,
		enc.EncodeToString(salt), enc.EncodeToString(key)), nil
}

// matches reports whether the password has the hash. An empty or foreign hash matches nothing, at the same cost as a real one, so that the time
// does not tell which users exist.
func (h *hasher) matches(ctx context.Context, password trove.Secret, hash string) (bool, error) {
	salt, want := parseHash(hash)
	got, err := h.key(ctx, password, salt)
	if err != nil {
		return false, err
	}
	return len(want) == argonKey && subtle.ConstantTimeCompare(got, want) == 1, nil
}

func parseHash(hash string) (salt, key []byte) {
	none := make([]byte, argonSalt)
	prefix := fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$", argon2.Version, argonMemory, argonTime, argonThreads)
	rest, ok := strings.CutPrefix(hash, prefix)
	if !ok {
		return none, nil
	}
	s, k, ok := strings.Cut(rest, "$")
	if !ok {
		return none, nil
	}
	salt, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		return none, nil
	}
	key, err = base64.RawStdEncoding.DecodeString(k)
	if err != nil {
		return none, nil
	}
	return salt, key
}
