package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/local"
	"github.com/trove-dbaas/trove/internal/atomicfile"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/internal/recovery"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

// RestoreRequest is one restore.
type RestoreRequest struct {
	File      string
	Identity  string // path of the recovery key
	Force     bool   // move a living deployment's files aside
	Elsewhere bool   // into another directory than the exported one
}

// Restored is what a restore did.
type Restored struct {
	Manifest recovery.Manifest
	Marker   recovery.Marker
	Cloud    string            // directory of the local cloud's files
	Dropped  []trove.Operation // that were open when the export was made
	Already  bool              // it was done before
	Nameless []string          // instances that run from volumes whose files are gone
}

// Restore puts a deployment back from an export. The whole file is checked before anything is written. Cut off at any point, it can be run again with the
// same export; until it is whole, nothing starts from the directory. The service must not run.
func Restore(ctx context.Context, cfg config.Config, req RestoreRequest) (r Restored, err error) {
	if cfg.Store.URL != "" {
		return r, trove.Errorf(trove.KindBadRequest,
			"The store of this deployment is a database server (store.url), and a restore writes a file. Restore with store.url empty (TROVE_STORE_URL= in the environment), then move the store into an empty database with `trove manage db import`.")
	}
	ids, err := recovery.ReadIdentities(req.Identity)
	if err != nil {
		return r, err
	}
	if r.Manifest, err = readExport(req.File, ids, nil); err != nil {
		return r, err
	}
	s := StateDir(cfg.State)
	if err := r.checkPlace(cfg, req); err != nil {
		return r, err
	}
	if err := s.Make(); err != nil {
		return r, err
	}
	lock, err := s.Lock(ctx, AllComponents)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := r.begin(s, req.Force); err != nil || r.Already {
		return r, err
	}
	if _, err = readExport(req.File, ids, r.put(s)); err != nil {
		return r, err
	}
	if err := r.finishStore(ctx, s); err != nil {
		return r, err
	}
	if r.Nameless, err = local.Nameless(cfg.State, r.Cloud); err != nil {
		return r, err
	}
	r.Marker.Whole, r.Marker.CutOff = true, nil
	for _, op := range r.Dropped {
		if op.Kind == trove.OpCreate {
			r.Marker.CutOff = append(r.Marker.CutOff, op.Target)
		}
	}
	return r, recovery.WriteMarker(string(s), r.Marker)
}

func readExport(path string, ids []age.Identity, visit func(recovery.Manifest, recovery.Part, io.Reader) error) (recovery.Manifest, error) {
	f, err := os.Open(path)
	if err != nil {
		return recovery.Manifest{}, trove.Wrap(trove.KindBadRequest, err, "The export cannot be read: %v.", err)
	}
	defer f.Close()
	return recovery.Read(f, ids, visit)
}

// InspectExport reads and checks a whole export and returns what is in it.
func InspectExport(path, identity string) (recovery.Manifest, error) {
	ids, err := recovery.ReadIdentities(identity)
	if err != nil {
		return recovery.Manifest{}, err
	}
	return readExport(path, ids, nil)
}

// checkPlace refuses a directory from which what runs on this machine would not be found, and decides where the cloud's files belong.
func (r *Restored) checkPlace(cfg config.Config, req RestoreRequest) error {
	hash, err := deploymentHash(cfg.State)
	if err != nil {
		return err
	}
	if hash != r.Manifest.Deployment && !req.Elsewhere {
		return trove.Errorf(trove.KindConflict,
			"The export is of %s, and the names of everything that runs are made from this path. Restored to %s the service would not find its running databases. Restore it to %s, or use --elsewhere if nothing of it runs.",
			r.Manifest.State, cfg.State, r.Manifest.State)
	}
	r.Cloud = cfg.CloudDir()
	if cfg.Local.Dir == "" && r.Manifest.Cloud != r.Manifest.State {
		r.Cloud = r.Manifest.Cloud
	}
	return nil
}

// begin decides whether the directory may be written to, moves aside what is to be replaced, and writes the marker before anything else.
func (r *Restored) begin(s StateDir, force bool) error {
	old, marked, err := recovery.ReadMarker(string(s))
	if err != nil {
		return err
	}
	if marked && old.Export == r.Manifest.ID() {
		r.Marker = old
		r.Already = old.Whole && !force
		if !old.Whole || r.Already {
			return r.moveAside(s)
		}
	}
	now := clock.System{}.Now().UTC()
	r.Marker = recovery.Marker{Export: r.Manifest.ID(), ExportedAt: r.Manifest.CreatedAt, RestoredAt: now}
	r.Marker.KeptCloud = exists(filepath.Join(r.Cloud, "network.json"))
	if living := exists(s.Path("store.db")) && (!marked || old.Whole); living {
		if !force {
			return trove.Errorf(trove.KindConflict,
				"There is a deployment under %s. --force moves its store and keys aside, into a directory below it.", s)
		}
		r.Marker.Aside = s.Path("before-restore-" + now.Format("20060102T150405Z"))
	}
	if err := recovery.WriteMarker(string(s), r.Marker); err != nil {
		return err
	}
	return r.moveAside(s)
}

// stays are the names in a state directory that a restore leaves where they are, beside the local cloud's files.
var stays = []string{"instances", "network", "network.json", "images", "shelf", "cache", "log", "objects", "export.lock", recovery.MarkerName}

// moveAside moves what the restore replaces into the marker's directory, once.
func (r *Restored) moveAside(s StateDir) error {
	if r.Marker.Aside == "" || r.Marker.Moved {
		return nil
	}
	if err := os.MkdirAll(r.Marker.Aside, 0o700); err != nil {
		return fmt.Errorf("move the old files aside: %w", err)
	}
	entries, err := os.ReadDir(string(s))
	if err != nil {
		return fmt.Errorf("move the old files aside: %w", err)
	}
	for _, e := range entries {
		name := e.Name()
		if slices.Contains(stays, name) || strings.HasPrefix(name, "before-restore-") || strings.HasSuffix(name, ".pid") {
			continue
		}
		if err := os.Rename(s.Path(name), filepath.Join(r.Marker.Aside, name)); err != nil {
			return fmt.Errorf("move the old files aside: %w", err)
		}
	}
	r.Marker.Moved = true
	return recovery.WriteMarker(string(s), r.Marker)
}

// put writes the parts. The local cloud's own files are newer than any export where they are still there, and stay.
func (r *Restored) put(s StateDir) func(recovery.Manifest, recovery.Part, io.Reader) error {
	return func(_ recovery.Manifest, p recovery.Part, in io.Reader) error {
		if r.Marker.KeptCloud && strings.HasPrefix(p.Name, recovery.RootCloud+"/") {
			return nil
		}
		path := p.Path(string(s), r.Cloud)
		if p.Name == recovery.RootState+"/store.db" { // what an earlier try left beside it belongs to another file
			for _, end := range []string{"-wal", "-shm", "-journal"} {
				if err := os.Remove(path + end); err != nil && !errors.Is(err, os.ErrNotExist) {
					return fmt.Errorf("restore the store: %w", err)
				}
			}
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return fmt.Errorf("restore %s: %w", p.Name, err)
		}
		return atomicfile.Stream(path, os.FileMode(p.Mode).Perm(), func(w io.Writer) error {
			_, err := io.Copy(w, in)
			return err
		})
	}
}

// finishStore brings the store up to date and makes it true again.
func (r *Restored) finishStore(ctx context.Context, s StateDir) error {
	st, err := sqlstore.Open(ctx, sqlstore.Config{Path: s.Path("store.db")})
	if err != nil {
		return err
	}
	sentence := fmt.Sprintf("The control plane was restored from an export of %s, when this was under way. Nothing was undone; look at the instance and repeat what is missing.",
		r.Manifest.CreatedAt.Format("2006-01-02 15:04 MST"))
	now := clock.System{}.Now()
	if r.Dropped, err = st.AfterRestore(ctx, sentence, now); err == nil {
		_, err = st.Claim(ctx, heldClaim, heldClaim, now, now.AddDate(100, 0, 0))
	}
	return errors.Join(err, st.Close())
}

// heldClaim is the claim in the store that says what the marker says in a state directory: other hosts of the deployment do not see that one.
const heldClaim = "restored"

// FinishRestore says that a restore is finished: what nobody knows may be removed from now on. It may be repeated, and while the service runs.
func FinishRestore(ctx context.Context, cfg config.Config) error {
	if cfg.Store.URL != "" || exists(StateDir(cfg.State).storeFile()) {
		st, err := openStore(ctx, cfg)
		if err != nil {
			return err
		}
		if err := errors.Join(st.Unclaim(ctx, heldClaim, heldClaim), st.Close()); err != nil {
			return err
		}
	}
	return recovery.Finish(cfg.State)
}

// held reports whether a restore, on whichever host of the deployment, is not finished. What cannot be read holds, too.
func (c *controllers) held(ctx context.Context) bool {
	if recovery.Held(c.cfg.State) {
		return true
	}
	claimed, err := c.store.Claimed(ctx, heldClaim, c.clock.Now())
	return err != nil || claimed
}

// Rescue gives the volumes a name again that are attached without one, and stops their databases for it: the next start of the service brings them back. The
// service must not run. It tells each instance, and may be repeated.
func Rescue(ctx context.Context, cfg config.Config, tell func(instance string)) (err error) {
	lock, err := StateDir(cfg.State).Lock(ctx, AllComponents)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	ids, err := local.Nameless(cfg.State, cfg.Local.Dir)
	if err != nil {
		return err
	}
	for _, id := range ids {
		tell(id)
		if err := local.Rescue(ctx, cfg.State, cfg.Local.Dir, id, slog.New(slog.DiscardHandler)); err != nil {
			return err
		}
	}
	return nil
}

// Unknown returns what this machine has of instances that the store does not know: after a restore they may be younger than the export. Of an OpenStack it says
// nothing: the taskmanager's log does.
func Unknown(ctx context.Context, cfg config.Config) ([]local.Trace, error) {
	if cfg.Cloud == config.CloudOpenStack {
		return nil, nil
	}
	traces, err := local.Traces(cfg.State, cfg.Local.Dir)
	if err != nil {
		return nil, err
	}
	known, err := Instances(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(traces, func(t local.Trace) bool {
		return slices.ContainsFunc(known, func(i trove.Instance) bool { return i.ID == t.Instance })
	}), nil
}

// Absent returns the living instances that this machine has nothing of: after a restore they may have been deleted since the export. On OpenStack no machine has
// anything of them; there the taskmanager marks those whose volume is gone.
func Absent(ctx context.Context, cfg config.Config) ([]trove.Instance, error) {
	if cfg.Cloud == config.CloudOpenStack {
		return nil, nil
	}
	traces, err := local.Traces(cfg.State, cfg.Local.Dir)
	if err != nil {
		return nil, err
	}
	known, err := Instances(ctx, cfg)
	return slices.DeleteFunc(known, func(i trove.Instance) bool {
		return slices.ContainsFunc(traces, func(t local.Trace) bool { return i.ID == t.Instance && t.Volume })
	}), err
}

// CutOff returns the instances whose creates were under way at the export that the deployment was restored from, and about which nobody has decided since.
func CutOff(ctx context.Context, cfg config.Config) ([]trove.Instance, error) {
	m, _, err := recovery.ReadMarker(cfg.State)
	if err != nil || len(m.CutOff) == 0 {
		return nil, err
	}
	known, err := Instances(ctx, cfg)
	return slices.DeleteFunc(known, func(i trove.Instance) bool {
		return i.Task != trove.TaskBuildErrorServer || !slices.Contains(m.CutOff, i.ID)
	}), err
}

// warnHeld tells the log what is kept because of a restore.
func (c *controllers) warnHeld(ctx context.Context) {
	m, there, err := recovery.ReadMarker(c.cfg.State)
	if err != nil || !there {
		return
	}
	c.log.WarnContext(ctx, "deployment was restored; nothing that is unknown is removed until `trove manage restore --finish`",
		"exported", m.ExportedAt.Format(time.RFC3339), "restored", m.RestoredAt.Format(time.RFC3339))
	unknown, err := Unknown(ctx, c.cfg)
	if err != nil {
		c.log.WarnContext(ctx, "unknown instances could not be listed", "err", err)
	}
	for _, t := range unknown {
		c.log.WarnContext(ctx, "instance is younger than the export and unknown", "instance", t.Instance, "name", t.Name, "running", t.Running)
	}
}
