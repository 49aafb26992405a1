package grant

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/keyfile"
)

// Keyring are the keys that tokens are signed with: the newest signs, all verify. Every process of the deployment has the same; any of them replaces keys, the
// others notice.
type Keyring struct {
	kept  keyfile.Keeper
	clock clock.Clock

	mu      sync.Mutex
	keys    []key // oldest first
	read    time.Time
	version string
}

// keysName is what the keys are kept under, JSON.
const keysName = "grants.json"

type key struct {
	ID     string    `json:"id"`
	Secret []byte    `json:"secret"`
	Made   time.Time `json:"made"`
}

const (
	keySize = 32
	// keyLife is how long a key signs. It verifies for MaxLife longer.
	keyLife = 30 * 24 * time.Hour
	// lookEvery bounds how often a token with an unknown key makes a process look for others, and how old what a signer knows may be.
	lookEvery = time.Second
)

// Open reads the keys, and makes the first one if there is none.
func Open(ctx context.Context, kept keyfile.Keeper, c clock.Clock) (*Keyring, error) {
	k := &Keyring{kept: kept, clock: c}
	_, err := kept.LoadOrMake(ctx, keysName, func() ([]byte, error) { return encode([]key{newKey(c.Now())}) })
	if err != nil {
		return nil, fmt.Errorf("open the keys of grants: %w", err)
	}
	if err := k.load(); err != nil {
		return nil, err
	}
	return k, nil
}

func newKey(now time.Time) key {
	secret := make([]byte, keySize)
	_, _ = rand.Read(secret) // it never fails
	return key{ID: rand.Text()[:10], Secret: secret, Made: now}
}

func encode(keys []key) ([]byte, error) {
	return json.Marshal(keys) //nolint:gosec // for who keeps the keys
}

func decode(data []byte) ([]key, error) {
	var keys []key
	if err := json.Unmarshal(data, &keys); err != nil || len(keys) == 0 {
		return nil, trove.Permanent(trove.Wrap(trove.KindInternal, err, "%s holds no keys.", keysName))
	}
	for _, each := range keys {
		if len(each.Secret) < keySize || each.ID == "" {
			return nil, trove.Permanent(trove.Errorf(trove.KindInternal, "%s holds a key that is too short.", keysName))
		}
	}
	return keys, nil
}

func (k *Keyring) load() error {
	data, version, err := k.kept.Load(keysName)
	if err != nil {
		return fmt.Errorf("read the keys of grants: %w", err)
	}
	keys, err := decode(data)
	if err != nil {
		return err
	}
	k.keys, k.version, k.read = keys, version, k.clock.Now()
	return nil
}

// newest returns the key that signs.
func (k *Keyring) newest() (key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.look(); err != nil {
		return key{}, err
	}
	return k.keys[len(k.keys)-1], nil
}

func (k *Keyring) look() error {
	if age := k.clock.Now().Sub(k.read); age >= 0 && age < lookEvery {
		return nil
	}
	if version, err := k.kept.Version(keysName); err == nil && version == k.version {
		k.read = k.clock.Now()
		return nil
	}
	return k.load()
}

func (k *Keyring) find(id string) (key, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if i := k.index(id); i >= 0 {
		return k.keys[i], true
	}
	if k.look() != nil { // a signer may have had newer ones
		return key{}, false
	}
	i := k.index(id)
	if i < 0 {
		return key{}, false
	}
	return k.keys[i], true
}

func (k *Keyring) index(id string) int {
	return slices.IndexFunc(k.keys, func(each key) bool { return each.ID == id })
}

// Renew makes a new key if the newest one has signed long enough, or now is wanted, and drops those that no living token can be signed with. Several
// processes may call it, and it may be repeated.
func (k *Keyring) Renew(ctx context.Context, now bool) (made bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	err = k.kept.Replace(ctx, keysName, func(old []byte) ([]byte, error) {
		keys, err := decode(old)
		if err != nil {
			return nil, err
		}
		living, again := renewed(keys, k.clock.Now(), now)
		made = again
		if !again && len(living) == len(keys) {
			return old, nil
		}
		return encode(living)
	})
	if err != nil {
		return false, fmt.Errorf("renew the keys of grants: %w", err)
	}
	return made, k.load()
}

// renewed returns the keys as they are to be.
func renewed(keys []key, at time.Time, now bool) (living []key, made bool) {
	made = now || at.Sub(keys[len(keys)-1].Made) >= keyLife
	if made {
		keys = append(slices.Clone(keys), newKey(at))
	}
	// A key has signed until the one after it was made, and a signer may have noticed a little later.
	living = keys[len(keys)-1:]
	for i := len(keys) - 2; i >= 0 && at.Sub(keys[i+1].Made) < MaxLife+time.Minute; i-- {
		living = keys[i:]
	}
	return living, made
}
