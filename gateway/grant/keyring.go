package grant

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/atomicfile"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/keyfile"
)

// Keyring are the keys that tokens are signed with: the newest signs, all verify. They are in one file of mode 0600, which every process of the
// deployment reads; one of them replaces keys, the others notice.
type Keyring struct {
	path  string
	clock clock.Clock

	mu   sync.Mutex
	keys []key // oldest first
	read time.Time
}

type key struct {
	ID     string    `json:"id"`
	Secret []byte    `json:"secret"`
	Made   time.Time `json:"made"`
}

const (
	keySize = 32
	// keyLife is how long a key signs. It verifies for MaxLife longer.
	keyLife = 30 * 24 * time.Hour
	// lookEvery bounds how often a token with an unknown key makes a process read the file again, and how old what a signer knows may be.
	lookEvery = time.Second
)

// Open reads the keys, and makes the first one if there is none.
func Open(path string, c clock.Clock) (*Keyring, error) {
	k := &Keyring{path: path, clock: c}
	_, err := keyfile.LoadOrMake(path, func() ([]byte, error) { return encode([]key{newKey(c.Now())}) })
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
	return json.Marshal(keys) //nolint:gosec // for the file of keys
}

func (k *Keyring) load() error {
	data, err := keyfile.LoadOrMake(k.path, func() ([]byte, error) { return nil, errors.New("the file is gone") })
	if err != nil {
		return fmt.Errorf("read the keys of grants: %w", err)
	}
	var keys []key
	if err := json.Unmarshal(data, &keys); err != nil || len(keys) == 0 {
		return trove.Permanent(trove.Wrap(trove.KindInternal, err, "The file %s holds no keys.", k.path))
	}
	for _, each := range keys {
		if len(each.Secret) < keySize || each.ID == "" {
			return trove.Permanent(trove.Errorf(trove.KindInternal, "The file %s holds a key that is too short.", k.path))
		}
	}
	k.keys, k.read = keys, k.clock.Now()
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
	return k.load()
}

func (k *Keyring) find(id string) (key, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if i := k.index(id); i >= 0 {
		return k.keys[i], true
	}
	if k.look() != nil { // a signer may have had a newer file
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

// Renew makes a new key if the newest one has signed long enough, or now is wanted, and drops those that no living token can be signed with. It must be
// called by one process of the deployment only. It may be repeated.
func (k *Keyring) Renew(now bool) (made bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.load(); err != nil {
		return false, err
	}
	at := k.clock.Now()
	last := k.keys[len(k.keys)-1]
	made = now || at.Sub(last.Made) >= keyLife
	keys := k.keys
	if made {
		keys = append(slices.Clone(keys), newKey(at))
	}
	// A key has signed until the one after it was made, and a signer may have noticed a little later.
	living := keys[len(keys)-1:]
	for i := len(keys) - 2; i >= 0 && at.Sub(keys[i+1].Made) < MaxLife+time.Minute; i-- {
		living = keys[i:]
	}
	if !made && len(living) == len(k.keys) {
		return false, nil
	}
	data, err := encode(living)
	if err == nil {
		err = atomicfile.Write(k.path, data, os.FileMode(0o600))
	}
	if err != nil {
		return false, fmt.Errorf("renew the keys of grants: %w", err)
	}
	return made, k.load()
}
