package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

// Configuration returns a configuration group with every column set.
func Configuration(project string) trove.Configuration {
	return trove.Configuration{
		ID: trove.NewID(), ProjectID: project, Name: "big – ü", Description: "for the shop", DatastoreVersionID: trove.NewID(),
		Values: map[string]json.RawMessage{
			"max_connections": json.RawMessage(`55`), "Sql_Mode": json.RawMessage(`"ANSI"`), "big": json.RawMessage(`18446744073709551615`),
		},
		Created: Start, Updated: Start,
	}
}

func testConfigurations(t *testing.T, s store.Store) {
	c, d := Configuration("p"), Configuration("q")
	d.Values, d.Description = nil, ""
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(tx.InsertConfiguration(ctx, c), tx.InsertConfiguration(ctx, d))
	})
	c.Version, d.Version, d.Values = 1, 1, map[string]json.RawMessage{}
	get := func(id string) trove.Configuration {
		t.Helper()
		got, err := s.Configuration(t.Context(), id)
		if err != nil {
			t.Fatalf("read group %s: %v", id, err)
		}
		return got
	}
	same(t, get(c.ID), c)
	same(t, get(d.ID), d)

	changed := get(c.ID)
	changed.Name, changed.Description, changed.Values = "new", "", map[string]json.RawMessage{"a": json.RawMessage(`true`)}
	later := Start.Add(time.Minute)
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.UpdateConfiguration(ctx, changed, later) })
	changed.Updated, changed.Version = later, 2
	same(t, get(c.ID), changed)
	err := s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error { return tx.UpdateConfiguration(ctx, c, later) })
	wantKind(t, err, trove.KindConflict) // it was read before the change
	same(t, get(c.ID), changed)

	for range 2 {
		do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.DeleteConfiguration(ctx, c.ID) })
	}
	_, err = s.Configuration(t.Context(), c.ID)
	wantKind(t, err, trove.KindNotFound)
	same(t, trove.MessageOf(err), "Configuration group with ID "+c.ID+" could not be found.")
}

func testConfigurationPages(t *testing.T, s store.Store) {
	var own, all []string
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		for n := range 7 {
			c := Configuration([]string{"p", "q"}[n%2])
			all = append(all, c.ID)
			if c.ProjectID == "p" {
				own = append(own, c.ID)
			}
			if err := tx.InsertConfiguration(ctx, c); err != nil {
				return err
			}
		}
		return nil
	})
	slices.Sort(own)
	slices.Sort(all)
	read := func(f store.ConfigurationFilter) []string {
		t.Helper()
		found, err := s.Configurations(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		ids := []string{}
		for _, c := range found {
			ids = append(ids, c.ID)
		}
		return ids
	}
	same(t, read(store.ConfigurationFilter{}), all)
	same(t, read(store.ConfigurationFilter{ProjectID: "p"}), own)
	same(t, read(store.ConfigurationFilter{ProjectID: "p", Limit: 2, Marker: own[0]}), own[1:3])
	same(t, read(store.ConfigurationFilter{ProjectID: "none"}), []string{})
}

func testConfiguredInstances(t *testing.T, s store.Store) {
	c := Configuration("p")
	var with []string
	for n := range 4 {
		i := Instance([]string{"p", "q"}[n/3])
		i.ConfigurationID = c.ID
		with = append(with, insert(t, s, i).ID)
	}
	other := insert(t, s, Instance("p"))
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.DeleteInstance(ctx, with[0], Start) })
	with = with[1:]
	slices.Sort(with)
	ids := func(f store.InstanceFilter) []string {
		t.Helper()
		found, err := s.ConfiguredInstances(t.Context(), c.ID, f)
		if err != nil {
			t.Fatal(err)
		}
		out := []string{}
		for _, i := range found {
			out = append(out, i.ID)
		}
		return out
	}
	same(t, ids(store.InstanceFilter{}), with)
	same(t, ids(store.InstanceFilter{Limit: 1, Marker: with[0]}), with[1:2])
	same(t, len(ids(store.InstanceFilter{ProjectID: "p"})), 2)
	n, err := s.CountConfigured(t.Context(), c.ID)
	if err != nil || n != 3 {
		t.Errorf("CountConfigured() = %d, %v, want 3", n, err)
	}
	use, err := s.VersionUse(t.Context(), other.DatastoreVersionID)
	if err != nil || use != "instance" {
		t.Errorf("VersionUse() = %q, %v, want instance", use, err)
	}
	kept, gone := Backup("p", other.ID), Backup("p", other.ID)
	kept.DatastoreVersionID, gone.DatastoreVersionID = trove.NewID(), trove.NewID()
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(tx.DeleteInstance(ctx, other.ID, Start), tx.InsertConfiguration(ctx, c),
			tx.InsertBackup(ctx, kept), tx.InsertBackup(ctx, gone), tx.DeleteBackup(ctx, gone.ID, Start))
	})
	for version, want := range map[string]string{
		other.DatastoreVersionID: "", c.DatastoreVersionID: "configuration", kept.DatastoreVersionID: "backup", gone.DatastoreVersionID: "",
	} {
		if use, err := s.VersionUse(t.Context(), version); err != nil || use != want {
			t.Errorf("VersionUse() = %q, %v, want %q", use, err, want)
		}
	}
}

func testInstanceConfiguration(t *testing.T, s store.Store) {
	i := insert(t, s, Instance("p"))
	state := func() trove.InstanceConfiguration {
		t.Helper()
		c, err := s.InstanceConfiguration(t.Context(), i.ID)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	late := func(now time.Time) []string {
		t.Helper()
		ids, err := s.LateConfigurations(t.Context(), now, 10)
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	end := func(revision int64) {
		t.Helper()
		do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.EndConfiguration(ctx, i.ID, revision) })
	}
	first := Start.UnixMicro()
	begin := func(due time.Time, want int64) {
		t.Helper()
		do(t, s, func(ctx context.Context, tx store.Tx) error {
			got, err := tx.BeginConfiguration(ctx, i.ID, Start, due)
			same(t, got, first+want)
			return err
		})
	}
	same(t, state(), trove.InstanceConfiguration{InstanceID: i.ID})
	end(first) // nothing was begun
	same(t, state(), trove.InstanceConfiguration{InstanceID: i.ID})

	due := Start.Add(time.Minute)
	begin(due, 0)
	same(t, state(), trove.InstanceConfiguration{InstanceID: i.ID, Revision: first, Due: due})
	same(t, late(Start), nil)
	same(t, late(due), []string{i.ID})
	begin(due, 1)
	end(first) // another attempt has begun since
	same(t, late(due), []string{i.ID})
	end(first + 1)
	same(t, late(due), nil)
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.SetConfigurationRestart(ctx, i.ID, true) })
	same(t, state(), trove.InstanceConfiguration{InstanceID: i.ID, Revision: first + 1, Applied: first + 1, Due: due, Restart: true})
	begin(due, 2)
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.DeleteInstance(ctx, i.ID, Start) })
	same(t, late(due), nil)
}

func testParameters(t *testing.T, s store.Store) {
	v := trove.DatastoreVersion{ID: trove.NewID(), DatastoreID: trove.NewID(), Name: "1", ImageTags: []string{"a", "b"}, RequireTLS: true}
	all := []trove.Parameter{
		{Name: "a", Type: trove.ParameterInteger, Min: "0", Max: "18446744073709551615"},
		{Name: "b", Type: trove.ParameterFloat, RestartRequired: true, Custom: true},
		{Name: "c", Type: trove.ParameterString, Custom: true, Deleted: true},
	}
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(tx.PutDatastoreVersion(ctx, v), tx.ReplaceParameters(ctx, v.ID, append(all, trove.Parameter{Name: "d"})))
	})
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.ReplaceParameters(ctx, v.ID, all) })
	read := func(removed bool) []trove.Parameter {
		t.Helper()
		found, err := s.Parameters(t.Context(), v.ID, removed)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	same(t, read(true), all)
	same(t, read(false), all[:2])
	all[0].Max, all[0].RestartRequired = "7", true
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.PutParameter(ctx, v.ID, all[0]) })
	same(t, read(true), all)
	got, err := s.DatastoreVersion(t.Context(), v.ID)
	if err != nil || !slices.Equal(got.ImageTags, v.ImageTags) || !got.RequireTLS {
		t.Errorf("image tags %v, TLS required %t, %v; want %v, true", got.ImageTags, got.RequireTLS, err, v.ImageTags)
	}
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.DeleteDatastoreVersion(ctx, v.ID) })
	same(t, read(true), nil)
}
