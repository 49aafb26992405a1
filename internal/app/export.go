package app

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"filippo.io/age"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/atomicfile"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/internal/imagelayout"
	"github.com/trove-dbaas/trove/internal/recovery"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

// ExportRequest is one export.
type ExportRequest struct {
	Output     string   // file to write; "": one named by the time in recovery.export_dir
	Recipients []string // beside those of the configuration
}

// exportSuffix ends the names of exports.
const exportSuffix = ".trove-export"

// Export writes an export of the deployment, whether the service runs or not, and returns the path and what is in it. A file appears whole or not at all.
func Export(ctx context.Context, cfg config.Config, req ExportRequest) (string, recovery.Manifest, error) {
	var m recovery.Manifest
	to, err := recovery.ParseRecipients(append(slices.Clone(cfg.Recovery.Recipients), req.Recipients...))
	if err != nil {
		return "", m, err
	}
	now := clock.System{}.Now()
	s := StateDir(cfg.State)
	m = recovery.Manifest{CreatedAt: now.UTC().Truncate(time.Second), State: cfg.State, Cloud: cfg.CloudDir(), TroveVersion: version()}
	if m.Deployment, err = deploymentHash(cfg.State); err != nil {
		return "", m, err
	}
	path := req.Output
	if path == "" {
		if cfg.Recovery.ExportDir == "" {
			return "", m, trove.Errorf(trove.KindBadRequest, "Say where the export goes: --output FILE, or recovery.export_dir in the configuration.")
		}
		path = filepath.Join(cfg.Recovery.ExportDir, "trove-"+m.ID()+exportSuffix)
	}
	if _, err := os.Stat(s.storeFile()); err != nil && cfg.Store.URL == "" {
		return "", m, trove.Wrap(trove.KindNotFound, err, "There is no deployment under %s.", cfg.State)
	}
	unlock, err := s.lockExport(ctx)
	if err != nil {
		return "", m, err
	}
	defer unlock()
	contents, done, err := s.contents(ctx, cfg, &m)
	if err != nil {
		return "", m, err
	}
	defer done()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", m, trove.Wrap(trove.KindUnavailable, err, "The directory for exports cannot be made: %v.", err)
	}
	err = writeExport(path, to, m, contents)
	for _, c := range contents {
		m.Parts = append(m.Parts, c.Part)
	}
	return path, m, err
}

func writeExport(path string, to []age.Recipient, m recovery.Manifest, contents []recovery.Content) error {
	return atomicfile.Stream(path, 0o600, func(w io.Writer) error { return recovery.Write(w, to, m, contents) })
}

// lockExport lets one export be made at a time, and clears away what one left that was cut off.
func (s StateDir) lockExport(ctx context.Context) (unlock func(), err error) {
	for {
		f, err := take(s.Path("export.lock"), syscall.LOCK_EX)
		if err == nil {
			left, _ := filepath.Glob(s.Path(".export-*"))
			for _, dir := range left {
				_ = os.RemoveAll(dir)
			}
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, err
		}
		if err := clock.Sleep(ctx, 100*time.Millisecond); err != nil {
			return nil, fmt.Errorf("another export of this deployment is being made: %w", err)
		}
	}
}

// contents takes a snapshot of the store, then reads the files: what is made meanwhile may be in them and not in the store, never the other way. It fills
// in the manifest; done removes the snapshot.
func (s StateDir) contents(ctx context.Context, cfg config.Config, m *recovery.Manifest) (_ []recovery.Content, done func(), err error) {
	tmp, err := os.MkdirTemp(string(s), ".export-")
	if err != nil {
		return nil, nil, fmt.Errorf("make room for a copy of the store: %w", err)
	}
	done = func() { _ = os.RemoveAll(tmp) }
	defer func() {
		if err != nil {
			done()
		}
	}()
	snapshot := filepath.Join(tmp, "store.db")
	source, err := storeConfig(cfg)
	if err != nil {
		return nil, nil, err
	}
	if err := sqlstore.Export(ctx, source, snapshot); err != nil {
		return nil, nil, err
	}
	if err := describe(ctx, cfg, filepath.Join(tmp, "read.db"), snapshot, m); err != nil {
		return nil, nil, err
	}
	first, err := recovery.File(recovery.RootState+"/store.db", 0o600, snapshot)
	if err != nil {
		return nil, nil, err
	}
	files, leftOut, err := recovery.Collect(cfg.State, cfg.CloudDir())
	if err != nil {
		return nil, nil, err
	}
	m.LeftOut = leftOut
	all := append([]recovery.Content{first}, files...)
	return s.withMasterKey(ctx, cfg, all, done)
}

// withMasterKey adds the master key where it does not lie in the state directory. An export without it would restore no secret.
func (s StateDir) withMasterKey(ctx context.Context, cfg config.Config, all []recovery.Content, done func()) ([]recovery.Content, func(), error) {
	const name = recovery.RootState + "/keys/master.key"
	if in := cfg.Secrets.BarbicanName(); in != "" {
		lines, err := barbicanLines(ctx, cfg, in)
		if err != nil {
			return nil, done, err
		}
		all = slices.DeleteFunc(all, func(c recovery.Content) bool { return c.Name == name }) // of a time before
		return append(all, recovery.Bytes(name, 0o600, lines)), done, nil
	}
	if slices.ContainsFunc(all, func(c recovery.Content) bool { return c.Name == name }) {
		return all, done, nil
	}
	data, err := os.ReadFile(s.MasterKey())
	if err != nil {
		return nil, done, trove.Wrap(trove.KindNotFound, err,
			"The master key is not in %s. It is handed to the service by systemd: let the service write the exports (recovery.export_dir), or run this with CREDENTIALS_DIRECTORY set to the directory of %s.",
			s.Keys(), filepath.Base(s.MasterKey()))
	}
	return append(all, recovery.Bytes(name, 0o600, data)), done, nil
}

// barbicanLines reads master keys from Barbican, for an export that may outlive it.
func barbicanLines(ctx context.Context, cfg config.Config, name string) (lines []byte, err error) {
	k := &Keys{cfg: cfg, clock: clock.System{}}
	m, err := k.barbican(ctx, name)
	if err == nil {
		lines, err = m.Lines(ctx)
	}
	if k.session != nil {
		err = errors.Join(err, k.session.Close())
	}
	return lines, err
}

// describe counts what the snapshot holds. It reads a copy, because to open a store changes it.
func describe(ctx context.Context, cfg config.Config, scratch, snapshot string, m *recovery.Manifest) error {
	if err := sqlstore.Snapshot(ctx, snapshot, scratch); err != nil {
		return err
	}
	st, err := sqlstore.Open(ctx, sqlstore.Config{Path: scratch, NoSync: true})
	if err != nil {
		return err
	}
	all, err := st.Instances(ctx, store.InstanceFilter{})
	if err == nil {
		m.Operations, err = st.CountOpenOperations(ctx)
	}
	used := map[string]int{}
	for _, i := range all {
		v, verr := st.DatastoreVersion(ctx, i.DatastoreVersionID)
		if verr == nil {
			used[v.ImageID]++
		}
	}
	if err = errors.Join(err, st.Close()); err != nil {
		return fmt.Errorf("count what the export holds: %w", err)
	}
	m.Instances = len(all)
	images, err := imagelayout.List(ImagesDir(cfg))
	if err != nil {
		return err
	}
	for _, i := range images {
		m.Images = append(m.Images, recovery.Image{
			ID: i.ID, Datastore: i.Datastore, Version: i.Version, EngineVersion: i.EngineVersion, Used: used[i.ID],
			Build: fmt.Sprintf("trove image build --state %s --datastore %s --datastore-version %s", cfg.State, i.Datastore, i.Version),
		})
	}
	return nil
}

// deploymentHash is what the names of everything outside the state directory have in common.
func deploymentHash(state string) (string, error) {
	real, err := filepath.EvalSymlinks(state)
	if errors.Is(err, os.ErrNotExist) { // as it will be
		parent, perr := filepath.EvalSymlinks(filepath.Dir(state))
		real, err = filepath.Join(parent, filepath.Base(state)), perr
	}
	if err != nil {
		return "", fmt.Errorf("find the state directory: %w", err)
	}
	sum := sha256.Sum256([]byte(real))
	return hex.EncodeToString(sum[:4]), nil
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return ""
}

// exportsOf returns the exports of a deployment in a directory, the oldest first: their names are the times.
func exportsOf(dir, deployment string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the exports: %w", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "trove-"+deployment+"-") && strings.HasSuffix(e.Name(), exportSuffix) {
			names = append(names, e.Name())
		}
	}
	slices.SortFunc(names, cmp.Compare)
	return names, nil
}

// exportTime reads when an export was made from its name; zero if the name is another's.
func exportTime(name, deployment string) time.Time {
	text := strings.TrimSuffix(strings.TrimPrefix(name, "trove-"+deployment+"-"), exportSuffix)
	at, err := time.Parse("20060102T150405Z", text)
	if err != nil {
		return time.Time{}
	}
	return at
}
