package fake_test

import (
	"errors"
	"os"
	"testing"

	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/enginetest"
	"github.com/trove-dbaas/trove/engine/fake"
)

func layout(t *testing.T) engine.Layout {
	t.Helper()
	dir := t.TempDir()
	l := engine.Layout{Data: dir + "/data", Runtime: dir + "/run", State: dir + "/data/trove", UID: os.Geteuid(), GID: os.Getegid()}
	for _, d := range []string{l.Data, l.Runtime, l.State} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func TestConformance(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) enginetest.Setup {
		newer := fake.New()
		newer.SetVersion("2.0")
		return enginetest.Setup{
			Engine: fake.New(), Layout: layout(t), BadOverrides: map[string]string{"invalid": "1"}, Newer: &enginetest.Newer{Engine: newer, Name: "2.0"},
		}
	})
}

func TestFailNextFailsOnce(t *testing.T) {
	e, l := fake.New(), layout(t)
	broken := errors.New("broken")
	e.FailNext(fake.OpInitialise, broken)
	if err := e.Initialise(t.Context(), l); !errors.Is(err, broken) {
		t.Errorf("Initialise() = %v, want the failure that was asked for", err)
	}
	if err := e.Initialise(t.Context(), l); err != nil {
		t.Errorf("second Initialise() = %v", err)
	}
	if got := e.Calls(fake.OpInitialise); got != 2 {
		t.Errorf("Calls() = %d, want 2", got)
	}
}

func TestRunScriptReplacesTheServer(t *testing.T) {
	e, l := fake.New(), layout(t)
	e.RunScript("echo the disk is broken >&2; exit 3")
	if err := e.Initialise(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	c, err := e.Command(l)
	if err != nil {
		t.Fatal(err)
	}
	if code := run(t, c); code != 3 {
		t.Errorf("the script ended with %d, want 3", code)
	}
	log, err := os.ReadFile(c.LogFile)
	if err != nil || string(log) != "the disk is broken\n" {
		t.Errorf("log = %q, %v", log, err)
	}
}
