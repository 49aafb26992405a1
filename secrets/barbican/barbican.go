// Package barbican keeps the master keys of a deployment in OpenStack's Barbican, and reads there what tenants name.
//
// Each key is a secret of its own, all under one name in the project of the service: keys that two processes make at the same time are both there. The one that was made last
// seals, all open. The keys are read once and held in memory; Barbican is asked again for a key that is not known, and now and then for a newer one. A Master
// may be used from several goroutines.
package barbican

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/keymanager/v1/secrets"
	"github.com/gophercloud/gophercloud/v2/pagination"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/secrets/keyring"
)

// Config says where the keys are.
type Config struct {
	Session *osclient.Session
	Name    string      // of the secrets
	Clock   clock.Clock // nil: the machine's
}

// Master is a keyring.Master.
type Master struct {
	cfg Config

	asking sync.Mutex           // held by who asks Barbican, or changes something there
	missed map[string]time.Time // keys that Barbican did not have, and when

	mu     sync.Mutex
	looked time.Time         // when Barbican was asked last, whether it answered or not
	lines  map[string]string // by the id of the secret, which never changes
	ring   *keyring.Ring
}

var _ keyring.Master = (*Master)(nil)

const (
	// look is how often Barbican is asked for a newer key; atMost how often for one that it did not have.
	look    = time.Minute
	atMost  = 2 * time.Second
	pages   = 100
	content = "text/plain"
	patient = 5 * time.Second // with a Barbican that does not answer, when the keys that are known may do
)

// Open reads the keys. There being none is NotFound, and Barbican being away Unavailable.
func Open(ctx context.Context, cfg Config) (*Master, error) {
	m := Empty(cfg)
	m.asking.Lock()
	defer m.asking.Unlock()
	return m, m.load(ctx)
}

// Make makes the first key.
func Make(ctx context.Context, cfg Config) (*Master, error) {
	m := Empty(cfg)
	if _, err := m.Rotate(ctx, m.cfg.Clock.Now()); err != nil {
		return nil, err
	}
	return m, nil
}

// Empty returns a Master that has read nothing, for Add: it can do nothing else before.
func Empty(cfg Config) *Master {
	if cfg.Clock == nil {
		cfg.Clock = clock.System{}
	}
	return &Master{cfg: cfg}
}

// Where implements keyring.Master.
func (m *Master) Where() string { return "in Barbican, secrets named " + m.cfg.Name }

func (m *Master) client() (*gophercloud.ServiceClient, error) {
	c, err := m.cfg.Session.KeyManager()
	if err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	return c, nil
}

// told says what it means that Barbican does not do what is needed.
func (m *Master) told(doing string, err error) error {
	kind := trove.KindOf(err)
	return trove.Wrap(kind, err, "The master key is %s, and cannot be %s: %s", m.Where(), doing, trove.MessageOf(osclient.Told(err)))
}

// load needs m.asking. A key that cannot be read leaves those that were.
func (m *Master) load(ctx context.Context) error {
	m.mu.Lock()
	m.looked = m.cfg.Clock.Now()
	before := m.lines
	m.mu.Unlock()
	client, err := m.client()
	if err != nil {
		return err
	}
	found, err := m.list(ctx, client)
	if err != nil {
		return m.told("read", err)
	}
	lines := map[string]string{}
	for _, s := range found {
		id := path.Base(s.SecretRef)
		line, known := before[id]
		if !known {
			payload, err := secrets.GetPayload(ctx, client, id, secrets.GetPayloadOpts{PayloadContentType: content}).Extract()
			if trove.IsNotFound(err) {
				continue // dropped at this very moment
			}
			if err != nil {
				return m.told("read", err)
			}
			line = strings.TrimSpace(string(payload))
		}
		lines[id] = line
	}
	ring, err := ringOf(lines)
	if err != nil {
		return trove.Wrap(trove.KindNotFound, trove.Permanent(err), "There is no master key %s: %v.", m.Where(), err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lines, m.ring = lines, ring
	return nil
}

// now returns the keys that are known; nil: none yet.
func (m *Master) now() (*keyring.Ring, time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ring, m.cfg.Clock.Now().Sub(m.looked)
}

func (m *Master) list(ctx context.Context, client *gophercloud.ServiceClient) (all []secrets.Secret, err error) {
	for {
		var page []secrets.Secret
		err := secrets.List(client, secrets.ListOpts{Name: m.cfg.Name, Limit: pages, Offset: len(all)}).EachPage(ctx, func(_ context.Context, p pagination.Page) (bool, error) {
			var err error
			page, err = secrets.ExtractSecrets(p)
			return false, err // the link to the next page is one of Barbican's own making
		})
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < pages {
			return slices.DeleteFunc(all, func(s secrets.Secret) bool { return s.Name != m.cfg.Name }), nil
		}
	}
}

// ringOf puts the youngest key first.
func ringOf(lines map[string]string) (*keyring.Ring, error) {
	var keys []*keyring.Ring
	for id, line := range lines {
		one, err := keyring.Parse([]byte(line))
		if err != nil {
			return nil, fmt.Errorf("secret %s: %w", id, err)
		}
		keys = append(keys, one)
	}
	slices.SortFunc(keys, func(a, b *keyring.Ring) int {
		x, y := a.Keys()[0], b.Keys()[0]
		return cmp.Or(y.Made.Compare(x.Made), cmp.Compare(x.ID, y.ID))
	})
	var text strings.Builder
	for _, one := range keys {
		text.WriteString(strings.Join(one.Lines(), "\n") + "\n")
	}
	return keyring.Parse([]byte(text.String()))
}

// keys returns the keys, asked for again if they were read long ago. An answer that does not come leaves those that are known. Nobody waits for another one who asks.
func (m *Master) keys(ctx context.Context) *keyring.Ring {
	ring, age := m.now()
	if age < look || !m.asking.TryLock() {
		return ring
	}
	defer m.asking.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patient)
	defer cancel()
	_ = m.load(ctx)
	ring, _ = m.now()
	return ring
}

// keysFor is keys for what is sealed: for a key that is not known Barbican is asked at once, and not again for a moment if it does not have it.
func (m *Master) keysFor(ctx context.Context, text string) (*keyring.Ring, error) {
	if ring := m.keys(ctx); ring.Knows(text) {
		return ring, nil
	}
	m.asking.Lock()
	defer m.asking.Unlock()
	ring, _ := m.now()
	ids := fmt.Sprint(keyring.KeysIn(text))
	if ring.Knows(text) || m.cfg.Clock.Now().Sub(m.missed[ids]) < atMost {
		return ring, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patient)
	defer cancel()
	if err := m.load(ctx); err != nil {
		return nil, err
	}
	ring, _ = m.now()
	if !ring.Knows(text) {
		if m.missed == nil || len(m.missed) > pages {
			m.missed = map[string]time.Time{}
		}
		m.missed[ids] = m.cfg.Clock.Now()
	}
	return ring, nil
}

// Seal implements secrets.Sealer.
func (m *Master) Seal(ctx context.Context, purpose string, plain trove.Secret) (string, error) {
	return m.keys(ctx).Seal(purpose, plain)
}

// Open implements secrets.Sealer.
func (m *Master) Open(ctx context.Context, purpose, sealed string) (trove.Secret, error) {
	ring, err := m.keysFor(ctx, sealed)
	if err != nil {
		return "", err
	}
	return ring.Open(purpose, sealed)
}

// Rewrap implements keyring.Master.
func (m *Master) Rewrap(text string, purposes ...string) (string, bool) {
	ring, err := m.keysFor(context.Background(), text)
	if err != nil {
		return text, false // as what does not open
	}
	return ring.Rewrap(text, purposes...)
}

// ask returns the keys as Barbican has them now.
func (m *Master) ask(ctx context.Context) (*keyring.Ring, error) {
	m.asking.Lock()
	defer m.asking.Unlock()
	if err := m.load(ctx); err != nil {
		return nil, err
	}
	ring, _ := m.now()
	return ring, nil
}

// Keys implements keyring.Master.
func (m *Master) Keys(ctx context.Context) ([]keyring.Key, error) {
	ring, err := m.ask(ctx)
	if err != nil {
		return nil, err
	}
	return ring.Keys(), nil
}

// Prepare implements keyring.Master.
func (*Master) Prepare(context.Context, time.Time) (keyring.Key, error) {
	return keyring.Key{}, trove.Errorf(trove.KindNotImplemented, "The master key is in Barbican, where every host finds a new one by itself: rotate it without preparing.")
}

// Rotate implements keyring.Master.
func (m *Master) Rotate(ctx context.Context, now time.Time) (keyring.Key, error) {
	line, key, err := keyring.Make(now)
	if err != nil {
		return keyring.Key{}, fmt.Errorf("make a master key: %w", err)
	}
	m.asking.Lock()
	defer m.asking.Unlock()
	if ring, _ := m.now(); ring != nil {
		if before := ring.Keys()[0].Made; !key.Made.After(before) { // by another machine's clock
			if line, key, err = keyring.Make(before.Add(time.Second)); err != nil {
				return keyring.Key{}, fmt.Errorf("make a master key: %w", err)
			}
		}
	}
	if err := m.store(ctx, line); err != nil {
		return keyring.Key{}, err
	}
	return key, m.load(ctx)
}

func (m *Master) store(ctx context.Context, line string) error {
	client, err := m.client()
	if err != nil {
		return err
	}
	_, err = secrets.Create(ctx, client, secrets.CreateOpts{
		Name: m.cfg.Name, Payload: line, PayloadContentType: content, SecretType: secrets.OpaqueSecret,
	}).Extract()
	if err != nil {
		return m.told("made", err)
	}
	return nil
}

// Add takes keys over that were kept elsewhere. Those that are there stay.
func (m *Master) Add(ctx context.Context, lines []byte) error {
	ring, err := keyring.Parse(lines)
	if err != nil {
		return fmt.Errorf("take over master keys: %w", err)
	}
	m.asking.Lock()
	defer m.asking.Unlock()
	if err := m.load(ctx); err != nil && !trove.IsNotFound(err) {
		return err
	}
	there, _ := m.now()
	for _, key := range ring.Keys() {
		if there != nil && there.Line(key.ID) != "" {
			continue
		}
		if err := m.store(ctx, ring.Line(key.ID)); err != nil {
			return err
		}
	}
	return m.load(ctx)
}

// Drop implements keyring.Master.
func (m *Master) Drop(ctx context.Context, ids ...string) error {
	client, err := m.client()
	if err != nil {
		return err
	}
	m.asking.Lock()
	defer m.asking.Unlock()
	if err := m.load(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	seals, lines := m.ring.Keys()[0].ID, m.lines
	m.mu.Unlock()
	for secret, line := range lines {
		id := line[:8]
		if id == seals || !slices.Contains(ids, id) {
			continue
		}
		if err := secrets.Delete(ctx, client, secret).ExtractErr(); err != nil && !trove.IsNotFound(err) {
			return m.told("dropped", err)
		}
	}
	return m.load(ctx)
}

// Lines implements keyring.Master.
func (m *Master) Lines(ctx context.Context) ([]byte, error) {
	ring, err := m.ask(ctx)
	if err != nil {
		return nil, err
	}
	return []byte(strings.Join(ring.Lines(), "\n") + "\n"), nil
}
