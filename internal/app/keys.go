package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/natsbus/server"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/internal/sealedkeys"
	"github.com/trove-dbaas/trove/secrets/barbican"
	secretsfile "github.com/trove-dbaas/trove/secrets/file"
	"github.com/trove-dbaas/trove/secrets/keyring"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

// Keys is what an operator does with the keys and certificates of a deployment, whether the service runs or not.
type Keys struct {
	cfg    config.Config
	store  *sqlstore.Store
	clock  clock.Clock
	master string // file
	copied bool   // the service has a copy of it, made when it started

	session *osclient.Session // where the master key is in Barbican; nil: not asked yet
}

// OpenKeys opens the keys and the store of a state directory. A service that runs from it goes on. Master is the file of the master key where
// systemd hands it over; "": it is in the state directory.
func OpenKeys(ctx context.Context, cfg config.Config, master string) (*Keys, error) {
	st, err := openStore(ctx, cfg)
	if err != nil {
		return nil, err
	}
	k := &Keys{cfg: cfg, store: st, clock: clock.System{}, master: master, copied: master != ""}
	if !k.copied {
		k.master = StateDir(cfg.State).MasterKey()
	}
	return k, nil
}

// Close closes the store.
func (k *Keys) Close() error {
	if k.session != nil {
		return errors.Join(k.session.Close(), k.store.Close())
	}
	return k.store.Close()
}

// open opens the master key. One that is not there is not made: it would seal what nobody else can open.
func (k *Keys) open(ctx context.Context) (keyring.Master, error) {
	if name := k.cfg.Secrets.BarbicanName(); name != "" {
		return k.barbican(ctx, name)
	}
	if _, err := secretsfile.Keys(k.master); errors.Is(err, fs.ErrNotExist) {
		return nil, trove.Wrap(trove.KindNotFound, err, "There is no master key at %s: name its file with --master-key.", k.master)
	} else if err != nil {
		return nil, err
	}
	return secretsfile.Open(k.master)
}

func (k *Keys) barbican(ctx context.Context, name string) (*barbican.Master, error) {
	cfg, err := k.barbicanConfig(ctx, name)
	if err != nil {
		return nil, err
	}
	return barbican.Open(ctx, cfg)
}

func (k *Keys) barbicanConfig(ctx context.Context, name string) (barbican.Config, error) {
	if k.session == nil {
		s, err := osclient.New(ctx, (&controllers{cfg: k.cfg, log: slog.New(slog.DiscardHandler), metrics: prometheus.NewRegistry()}).openStackConfig())
		if err != nil {
			return barbican.Config{}, inBarbican(err)
		}
		k.session = s
	}
	return barbican.Config{Session: k.session, Name: name, Clock: k.clock}, nil
}

// CopyMasterKey copies the master keys to Barbican, under a name; those that are there stay. It returns where they are now.
func (k *Keys) CopyMasterKey(ctx context.Context, name string) (where string, err error) {
	from, err := k.open(ctx)
	if err != nil {
		return "", err
	}
	lines, err := from.Lines(ctx)
	if err != nil {
		return "", err
	}
	cfg, err := k.barbicanConfig(ctx, name)
	if err != nil {
		return "", err
	}
	to := barbican.Empty(cfg)
	return to.Where(), to.Add(ctx, lines)
}

// deployment returns the keys that all controllers share.
func (k *Keys) deployment(ctx context.Context) (*sealedkeys.Keys, error) {
	sealer, err := k.open(ctx)
	if err != nil {
		return nil, err
	}
	kept, err := openKeeper(ctx, k.store, sealer, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	if _, err := kept.Version(keyFiles[0]); err != nil {
		return nil, trove.Wrap(trove.KindNotFound, err, "The store has no keys yet: they are made, or taken over from files, when the service starts.")
	}
	return kept, nil
}

// RenewBusKeys makes new identities of the bus, for after a theft. Brokers take them when they start again.
func (k *Keys) RenewBusKeys(ctx context.Context) error {
	kept, err := k.deployment(ctx)
	if err != nil {
		return err
	}
	return server.RenewKeys(ctx, kept)
}

// CAReport says how far the replacement of the bus's CA has come.
type CAReport struct {
	server.CAStatus
	Guests  int      // that have enrolled
	Told    int      // of them, those that know what is announced now
	Waiting []string // instances whose guests the next step waits for
}

// CA returns the report.
func (k *Keys) CA(ctx context.Context) (CAReport, error) {
	kept, err := k.deployment(ctx)
	if err != nil {
		return CAReport{}, err
	}
	status, err := server.ReadCA(kept)
	if err != nil {
		return CAReport{}, err
	}
	r := CAReport{CAStatus: status}
	broker := brokerStore{k.store}
	rows, err := broker.Controllers(ctx)
	if err != nil {
		return r, err
	}
	guests, err := broker.GuestTrusts(ctx)
	if err != nil {
		return r, err
	}
	now := k.clock.Now()
	addresses, urls := server.Told(rows, brokerName(k.cfg), now)
	trust := bus.TrustOf(addresses, urls, status.Bundle)
	r.Guests, r.Waiting = len(guests), status.Waiting(guests, trust, now)
	for _, g := range guests {
		if g.Trust == trust {
			r.Told++
		}
	}
	return r, nil
}

// RollCA begins to replace the CA. With force a replacement that is under way goes one step further, whoever has not heard of it.
func (k *Keys) RollCA(ctx context.Context, force bool) (began bool, err error) {
	kept, err := k.deployment(ctx)
	if err != nil {
		return false, err
	}
	began, err = server.BeginCARoll(ctx, kept, k.clock, k.cfg.Bus.CALife)
	if err != nil || began || !force {
		return began, err
	}
	_, err = server.ContinueCARoll(ctx, kept, k.clock)
	return false, err
}

// MasterKey is a key of the file and how many texts in the store are sealed under it.
type MasterKey struct {
	keyring.Key
	Seals bool
	Next  bool // it was prepared, and seals from the next rotation on
	Texts int
}

// MasterKeys returns the keys of the file, and how many texts in places that are not in the list of sealed columns are sealed under a key of it, by place.
func (k *Keys) MasterKeys(ctx context.Context) (keys []MasterKey, unlisted map[string]int, err error) {
	master, err := k.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	list, err := master.Keys(ctx)
	if err != nil {
		return nil, nil, err
	}
	for i, key := range list {
		keys = append(keys, MasterKey{Key: key, Seals: i == 0})
	}
	_, keys[len(keys)-1].Next = keyring.Next(list)
	known := sqlstore.SealedColumns()
	unlisted = map[string]int{}
	err = k.store.VisitTexts(ctx, []string{keyring.Marker, "v1."}, func(table, column, text string) {
		for _, id := range keyring.KeysIn(text) {
			at := slices.IndexFunc(keys, func(m MasterKey) bool { return m.ID == id })
			if at < 0 {
				continue
			}
			keys[at].Texts++
			if !slices.ContainsFunc(known, func(c sqlstore.SealedColumn) bool { return c.Table == table && c.Column == column }) {
				unlisted[table+"."+column]++
			}
		}
	})
	return keys, unlisted, err
}

// PrepareMasterKey makes the next master key, which opens and does not seal until the next rotation: hosts get the file before that. It returns its id.
func (k *Keys) PrepareMasterKey(ctx context.Context) (string, error) {
	master, err := k.open(ctx)
	if err != nil {
		return "", err
	}
	next, err := master.Prepare(ctx, k.clock.Now())
	return next.ID, err
}

// Rotation is what RotateMasterKey did.
type Rotation struct {
	Made    bool // a new key; false: one that was cut off before was finished
	Changed int  // texts that were sealed anew
	Restart bool // the service must be restarted before anything is sealed anew
}

// RotateMasterKey makes a new master key, which seals from now on, and seals everything in the store anew with it. If a rotation was cut off before,
// that one is finished instead. Where the service has a copy of the file nothing is sealed anew yet: it could not open it.
func (k *Keys) RotateMasterKey(ctx context.Context) (r Rotation, err error) {
	master, err := k.open(ctx)
	if err != nil {
		return r, err
	}
	if !k.copied {
		if r.Changed, err = k.Reseal(ctx); err != nil || r.Changed > 0 {
			return r, err
		}
	}
	if _, err := master.Rotate(ctx, k.clock.Now()); err != nil {
		return r, err
	}
	r.Made, r.Restart = true, k.copied
	if !k.copied {
		r.Changed, err = k.Reseal(ctx)
	}
	return r, err
}

// Reseal seals everything anew that is not sealed under the first key of the file, and returns how many texts that were. It may be cut off and repeated.
func (k *Keys) Reseal(ctx context.Context) (int, error) {
	sealer, err := k.open(ctx)
	if err != nil {
		return 0, err
	}
	return k.store.RewriteSealed(ctx, func(_ sqlstore.SealedColumn, row, text string) (string, bool) {
		// The first version sealed for these purposes; a text that is not for one of them does not open with it.
		purposes := []string{"enrolment:" + row}
		if op, err := k.store.Operation(ctx, row); err == nil {
			purposes = append(purposes, trove.SecretPurpose(op.Target))
		}
		return sealer.Rewrap(text, purposes...)
	})
}

// keepReplaced is how long a key that was replaced is kept: an operation that runs may hold a text sealed under it, and write it down again.
const keepReplaced = time.Hour

// PruneMasterKeys drops the keys that nothing in the store is sealed under and that were replaced long ago, and returns their ids. A key that is
// still needed is a Conflict that says by what.
func (k *Keys) PruneMasterKeys(ctx context.Context) (dropped []string, err error) {
	if _, err := k.Reseal(ctx); err != nil {
		return nil, err
	}
	keys, unlisted, err := k.MasterKeys(ctx)
	if err != nil {
		return nil, err
	}
	var kept []error
	for i, key := range keys {
		if key.Seals || key.Next {
			continue
		}
		age := k.clock.Now().Sub(keys[i-1].Made) // replaced when the one above it was made
		switch {
		case key.Texts > 0:
			kept = append(kept, trove.Errorf(trove.KindConflict, "The key %s is kept: %d texts are sealed under it%s.", key.ID, key.Texts, places(unlisted)))
		case age < keepReplaced:
			kept = append(kept, trove.Errorf(trove.KindConflict, "The key %s is kept: it was replaced %s ago, and operations that run may need it for %s. Try again later.",
				key.ID, age.Round(time.Second), keepReplaced))
		default:
			dropped = append(dropped, key.ID)
		}
	}
	if len(dropped) > 0 {
		master, err := k.open(ctx)
		if err != nil {
			return nil, err
		}
		if err := master.Drop(ctx, dropped...); err != nil {
			return nil, err
		}
	}
	return dropped, errors.Join(kept...)
}

func places(unlisted map[string]int) string {
	if len(unlisted) == 0 {
		return ""
	}
	return fmt.Sprintf(", some of them in places that are not sealed anew: %v", unlisted)
}

// ClearGuest forgives a guest; see sqlstore.Store.ClearGuest.
func (k *Keys) ClearGuest(ctx context.Context, instance string) error {
	return k.store.ClearGuest(ctx, instance, k.clock.Now())
}
