package storetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

// Module returns a module with every column set.
func Module(project, name string) trove.Module {
	return trove.Module{
		ID: trove.NewID(), ProjectID: project, Name: name, Type: "ping", Description: "ü", Contents: "sealed", MD5: "0cc175b9c0f1b6a831c399e269772661",
		DatastoreID: "ds", DatastoreVersionID: "v", AutoApply: true, Visible: true, LiveUpdate: true, PriorityApply: true, ApplyOrder: 3, IsAdmin: true,
		Created: Start, Updated: Start,
	}
}

func testModule(t *testing.T, s store.Store) {
	want := Module("p", "m")
	want.Contents = strings.Repeat("a", 2<<20)
	bare := trove.Module{ID: trove.NewID(), Name: "n", Type: "ping", Created: Start, Updated: Start}
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(tx.InsertModule(ctx, want), tx.InsertModule(ctx, bare))
	})
	for _, m := range []trove.Module{want, bare} {
		got, err := s.Module(t.Context(), m.ID)
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, m)
	}
	now := Start.Add(time.Hour)
	changed := bare
	changed.Name, changed.ID, changed.Created, changed.Updated, changed.ApplyOrder = "changed", want.ID, Start, now, 9
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return tx.UpdateModule(ctx, want.ID, now, func(m *trove.Module) error {
			same(t, *m, want)
			*m = changed
			m.ID, m.Created = "x", now // not written
			return nil
		})
	})
	got, err := s.Module(t.Context(), want.ID)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, changed)
	for range 2 { // gone is fine
		do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.DeleteModule(ctx, want.ID, now) })
	}
	_, err = s.Module(t.Context(), want.ID)
	wantKind(t, err, trove.KindNotFound)
	same(t, trove.MessageOf(err), "Module with ID "+want.ID+" could not be found.")
	err = s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		return tx.UpdateModule(ctx, want.ID, now, func(*trove.Module) error { return nil })
	})
	wantKind(t, err, trove.KindNotFound)
}

func testModuleNames(t *testing.T, s store.Store) {
	insert := func(m trove.Module) error {
		return s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error { return tx.InsertModule(ctx, m) })
	}
	for range 3 { // a name is free again when its module is deleted
		m, again := Module("p", "m"), Module("p", "m")
		if err := insert(m); err != nil {
			t.Fatal(err)
		}
		if insert(again) == nil {
			t.Error("two modules have the same name")
		}
		do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.DeleteModule(ctx, m.ID, Start) })
	}
	for _, change := range []func(*trove.Module){
		func(*trove.Module) {}, func(m *trove.Module) { m.Name = "n" }, func(m *trove.Module) { m.Type = "t" }, func(m *trove.Module) { m.ProjectID = "" },
		func(m *trove.Module) { m.DatastoreID = "" }, func(m *trove.Module) { m.DatastoreVersionID = "" },
	} {
		m := Module("p", "m")
		change(&m)
		if err := insert(m); err != nil {
			t.Errorf("%+v: %v", m, err)
		}
	}
}

func testModuleList(t *testing.T, s store.Store) {
	mine, hidden, common, other := Module("p", "mine"), Module("p", "hidden"), Module("", "common"), Module("q", "mine")
	hidden.Visible, common.DatastoreID = false, ""
	gone := Module("p", "gone")
	all := []trove.Module{mine, hidden, common, other, gone}
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		for _, m := range all {
			if err := tx.InsertModule(ctx, m); err != nil {
				return err
			}
		}
		return tx.DeleteModule(ctx, gone.ID, Start)
	})
	for _, m := range []*trove.Module{&mine, &hidden, &common, &other} {
		m.Contents = ""
	}
	all = []trove.Module{mine, hidden, common, other}
	byID := func(a, b trove.Module) int { return strings.Compare(a.ID, b.ID) }
	slices.SortFunc(all, byID)
	ds, every := "ds", ""
	for name, c := range map[string]struct {
		f    store.ModuleFilter
		want []trove.Module
	}{
		"all":              {store.ModuleFilter{}, all},
		"of a project":     {store.ModuleFilter{ProjectID: "p"}, []trove.Module{mine, hidden, common}},
		"visible":          {store.ModuleFilter{ProjectID: "p", Visible: true}, []trove.Module{mine, common}},
		"name":             {store.ModuleFilter{Name: "mine"}, []trove.Module{mine, other}},
		"datastore":        {store.ModuleFilter{DatastoreID: &ds, ProjectID: "q"}, []trove.Module{other}},
		"every datastore":  {store.ModuleFilter{DatastoreID: &every}, []trove.Module{common}},
		"first page":       {store.ModuleFilter{Limit: 2}, all[:2]},
		"after the marker": {store.ModuleFilter{Marker: all[1].ID, Limit: 2}, all[2:]},
	} {
		got, err := s.Modules(t.Context(), c.f)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		slices.SortFunc(c.want, byID)
		t.Run(name, func(t *testing.T) { same(t, got, c.want) })
	}
}

func testInstanceModules(t *testing.T, s store.Store) {
	i, j := insert(t, s, Instance("p")), insert(t, s, Instance("p"))
	m, n := Module("p", "m"), Module("p", "n")
	link := func(instance, module string) trove.InstanceModule {
		return trove.InstanceModule{InstanceID: instance, ModuleID: module, MD5: "a", Created: Start, Updated: Start}
	}
	im, in, jm := link(i.ID, m.ID), link(i.ID, n.ID), link(j.ID, m.ID)
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(tx.InsertModule(ctx, m), tx.InsertModule(ctx, n), tx.PutInstanceModule(ctx, im), tx.PutInstanceModule(ctx, in),
			tx.PutInstanceModule(ctx, jm))
	})
	check := func(instance, module string, want ...trove.InstanceModule) {
		t.Helper()
		got, err := s.InstanceModules(t.Context(), instance, module)
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(want, func(a, b trove.InstanceModule) int {
			return strings.Compare(a.InstanceID+a.ModuleID, b.InstanceID+b.ModuleID)
		})
		same(t, got, want)
	}
	check(i.ID, "", im, in)
	check("", m.ID, im, jm)
	check("", "", im, in, jm)
	im.MD5, im.Updated = "b", Start.Add(time.Second)
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.PutInstanceModule(ctx, im) })
	check(i.ID, m.ID, im)
	for range 2 { // gone is fine
		do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.DeleteInstanceModules(ctx, i.ID, n.ID) })
	}
	check(i.ID, "", im)
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.DeleteInstance(ctx, j.ID, Start) })
	check("", m.ID, im)
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.DeleteModule(ctx, m.ID, Start) })
	check("", "")
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(tx.PutInstanceModule(ctx, in), tx.DeleteInstanceModules(ctx, i.ID, ""))
	})
	check("", "")
}
