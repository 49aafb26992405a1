package app

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/internal/recovery"
	"github.com/trove-dbaas/trove/internal/workflow"
	secretsfile "github.com/trove-dbaas/trove/secrets/file"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

// newState makes a state directory with a store, a master key and a record of the cloud, and a recovery key.
func newState(t *testing.T) (cfg config.Config, key string) {
	t.Helper()
	cfg = config.Default()
	cfg.State = filepath.Join(t.TempDir(), "state")
	s := StateDir(cfg.State)
	if err := s.Make(); err != nil {
		t.Fatal(err)
	}
	st, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: s.Path("store.db"), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := secretsfile.Open(s.MasterKey()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Path("network.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	key = filepath.Join(t.TempDir(), "key")
	recipient, err := recovery.GenerateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Recovery.Recipients = []string{recipient}
	cfg.Recovery.ExportDir = filepath.Join(t.TempDir(), "exports")
	return cfg, key
}

// value reads a gauge or a counter.
func value(t *testing.T, m prometheus.Metric) float64 {
	t.Helper()
	var got dto.Metric
	if err := m.Write(&got); err != nil {
		t.Fatal(err)
	}
	return got.GetGauge().GetValue() + got.GetCounter().GetValue()
}

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestExportsAreWrittenWhenTheyAreDue(t *testing.T) {
	cfg, _ := newState(t)
	cfg.Recovery.Interval, cfg.Recovery.Keep = time.Hour, 2
	e := exporter{
		c:        &controllers{cfg: cfg, log: slog.New(slog.DiscardHandler), clock: clock.System{}},
		last:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "last"}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "failures"}),
	}
	var err error
	if e.deployment, err = deploymentHash(cfg.State); err != nil {
		t.Fatal(err)
	}
	dir := cfg.Recovery.ExportDir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	stranger := "trove-ffffffff-20200101T000000Z" + exportSuffix
	for _, name := range []string{stranger, "trove-" + e.deployment + "-20200101T000000Z" + exportSuffix, "trove-" + e.deployment + "-20200102T000000Z" + exportSuffix} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if wait := e.due(t.Context()); wait > 0 {
		t.Errorf("years were missed and the next export is due in %s", wait)
	}
	e.once(t.Context())
	if wait := e.due(t.Context()); wait <= 59*time.Minute || wait > time.Hour {
		t.Errorf("the missed exports are made up for more than once: the next is due in %s", wait)
	}
	names, err := exportsOf(dir, e.deployment)
	if err != nil || len(names) != 2 || !strings.Contains(names[0], "20200102") {
		t.Errorf("kept: %v %v", names, err)
	}
	if _, err := os.Stat(filepath.Join(dir, stranger)); err != nil {
		t.Errorf("another deployment's export: %v", err)
	}
	if at := value(t, e.last); at < 1.7e9 {
		t.Errorf("the last success was at %v", at)
	}
	e.c.cfg.Recovery.ExportDir = filepath.Join(cfg.State, "store.db", "x")
	if wait := e.once(t.Context()); wait != exportRetry || value(t, e.failures) != 1 {
		t.Errorf("after a failure the next try is in %s, failures %v", wait, value(t, e.failures))
	}
	if left, _ := filepath.Glob(filepath.Join(cfg.State, ".export-*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestARestoreCanBeRunAgain restores, then damages what a kill in the middle would leave, and restores again.
func TestARestoreCanBeRunAgain(t *testing.T) {
	cfg, key := newState(t)
	s := StateDir(cfg.State)
	master := content(t, s.MasterKey())
	file, _, err := Export(t.Context(), cfg, ExportRequest{})
	if err != nil {
		t.Fatal(err)
	}
	req := RestoreRequest{File: file, Identity: key}
	if _, err := Restore(t.Context(), cfg, req); trove.KindOf(err) != trove.KindConflict {
		t.Errorf("over a living deployment: %v", err)
	}
	if recovery.Held(cfg.State) {
		t.Error("a restore that was refused left its marker")
	}
	if err := os.RemoveAll(cfg.State); err != nil {
		t.Fatal(err)
	}
	r, err := Restore(t.Context(), cfg, req)
	if err != nil || r.Marker.KeptCloud || content(t, s.Path("network.json")) != "{}" || content(t, s.MasterKey()) != master {
		t.Fatalf("restored %+v: %v", r, err)
	}
	r.Marker.Whole = false
	if err := recovery.WriteMarker(cfg.State, r.Marker); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(s.Keys()); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"store.db": "half", "store.db-wal": "of another", "network.json": ""} {
		if err := os.WriteFile(s.Path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := recovery.Startable(cfg.State); err == nil {
		t.Error("half a restore may be started")
	}
	if r, err = Restore(t.Context(), cfg, req); err != nil || r.Already || content(t, s.MasterKey()) != master || content(t, s.Path("network.json")) != "{}" {
		t.Errorf("the second try: %+v %v", r, err)
	}
	if err := recovery.Startable(cfg.State); err != nil {
		t.Error(err)
	}
	if r, err = Restore(t.Context(), cfg, req); err != nil || !r.Already {
		t.Errorf("once more: %+v %v", r, err)
	}
}

// change writes to the store of a state directory.
func change(t *testing.T, cfg config.Config, fn func(ctx context.Context, tx store.Tx) error) {
	t.Helper()
	st, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: StateDir(cfg.State).Path("store.db"), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(st.InTx(t.Context(), fn), st.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestAnotherHostRemovesWhatARestoreDoesNotKnow: the marker is on the host of the restore alone, and all hosts have one store.
func TestAnotherHostRemovesWhatARestoreDoesNotKnow(t *testing.T) {
	cfg, key := newState(t)
	file, _, err := Export(t.Context(), cfg, ExportRequest{})
	if err != nil {
		t.Fatal(err)
	}
	held := func() bool {
		t.Helper()
		st, err := openStore(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = st.Close() }()
		other := &controllers{cfg: config.Config{State: t.TempDir()}, store: st, clock: clock.System{}}
		return other.held(t.Context())
	}
	if held() {
		t.Error("held before the restore")
	}
	if _, err := Restore(t.Context(), cfg, RestoreRequest{File: file, Identity: key, Force: true}); err != nil {
		t.Fatal(err)
	}
	if !held() {
		t.Error("not held after the restore")
	}
	for range 2 {
		if err := FinishRestore(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	if held() || recovery.Held(cfg.State) {
		t.Error("held after its end")
	}
}

// TestInstancesOnOpenStackAreSaidToBeGone: their volumes are on no machine of the service, before a restore and after it.
func TestInstancesOnOpenStackAreSaidToBeGone(t *testing.T) {
	cfg, _ := newState(t)
	change(t, cfg, func(ctx context.Context, tx store.Tx) error {
		return tx.InsertInstance(ctx, trove.Instance{ID: "i", ProjectID: "p", Name: "n", FlavorID: "1"})
	})
	for kind, want := range map[string]int{config.CloudLocal: 1, config.CloudOpenStack: 0} {
		cfg.Cloud = kind
		if gone, err := Absent(t.Context(), cfg); err != nil || len(gone) != want {
			t.Errorf("%s: %d are gone, %v; want %d", kind, len(gone), err, want)
		}
	}
}

// TestNobodyIsToldOfACreateThatARestoreCutOff: its instance keeps what was made for it, and may be a database in use.
func TestNobodyIsToldOfACreateThatARestoreCutOff(t *testing.T) {
	cfg, key := newState(t)
	now := time.Now().UTC()
	change := func(fn func(ctx context.Context, tx store.Tx) error) { t.Helper(); change(t, cfg, fn) }
	change(func(ctx context.Context, tx store.Tx) (err error) {
		for id, kind := range map[string]string{"built": trove.OpCreate, "failed": "", "reset": trove.OpCreate, "rebooted": trove.OpReboot} {
			task := trove.TaskBuilding
			if kind == "" {
				task = trove.TaskBuildErrorServer
			}
			err = errors.Join(err, tx.InsertInstance(ctx, trove.Instance{ID: id, ProjectID: "p", Name: id, Created: now, Updated: now, Task: task, FlavorID: "1"}))
			if kind != "" {
				_, bad := workflow.Enqueue(ctx, tx, now, workflow.Request{Kind: kind, Target: id, ProjectID: "p"})
				err = errors.Join(err, bad)
			}
		}
		return err
	})
	file, _, err := Export(t.Context(), cfg, ExportRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), cfg, RestoreRequest{File: file, Identity: key, Force: true}); err != nil {
		t.Fatal(err)
	}
	told := func() (ids []string) {
		t.Helper()
		all, err := CutOff(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range all {
			ids = append(ids, i.ID)
		}
		slices.Sort(ids)
		return ids
	}
	if diff := cmp.Diff([]string{"built", "reset"}, told()); diff != "" {
		t.Error(diff)
	}
	change(func(ctx context.Context, tx store.Tx) error {
		return tx.UpdateInstance(ctx, "reset", now, func(i *trove.Instance) error { i.Task = trove.TaskNone; return nil })
	})
	if diff := cmp.Diff([]string{"built"}, told()); diff != "" {
		t.Errorf("after a reset of one: %s", diff)
	}
	if err := FinishRestore(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if got := told(); len(got) > 0 {
		t.Errorf("after the end of the restore: %v", got)
	}
}

func TestAForcedRestoreMovesAsideWhatItReplacesAndKeepsTheCloudsFiles(t *testing.T) {
	cfg, key := newState(t)
	s := StateDir(cfg.State)
	file, _, err := Export(t.Context(), cfg, ExportRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"network.json": "newer", "keys/master.key": "another", "openrc": "x"} {
		if err := os.WriteFile(s.Path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Restore(t.Context(), cfg, RestoreRequest{File: file, Identity: key, Force: true})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{
		"network": content(t, s.Path("network.json")), "old key": content(t, filepath.Join(r.Marker.Aside, "keys/master.key")),
		"old openrc": content(t, filepath.Join(r.Marker.Aside, "openrc")),
	}
	if diff := cmp.Diff(map[string]string{"network": "newer", "old key": "another", "old openrc": "x"}, got); diff != "" || !r.Marker.KeptCloud {
		t.Errorf("kept cloud %v\n%s", r.Marker.KeptCloud, diff)
	}
	if content(t, s.MasterKey()) == "another" {
		t.Error("the master key is the old one")
	}
	if _, err := os.Stat(s.Path("openrc")); !os.IsNotExist(err) {
		t.Errorf("openrc: %v", err)
	}
}

func TestAnExportNeedsTheMasterKey(t *testing.T) {
	cfg, key := newState(t)
	elsewhere := t.TempDir()
	if err := os.Rename(StateDir(cfg.State).MasterKey(), filepath.Join(elsewhere, "master.key")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Export(t.Context(), cfg, ExportRequest{}); trove.KindOf(err) != trove.KindNotFound {
		t.Errorf("without the master key: %v", err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", elsewhere)
	file, _, err := Export(t.Context(), cfg, ExportRequest{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := InspectExport(file, key)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Parts {
		if p.Name == "state/keys/master.key" {
			return
		}
	}
	t.Errorf("the export has no master key: %+v", m.Parts)
}
