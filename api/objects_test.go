package api_test

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/backupstore/swift"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/openstacktest"
)

// newSwiftWorld is a world whose objects are in a fake Swift, in the accounts of projects; the service has no right there but what a caller gives it.
func newSwiftWorld(t *testing.T) (*logWorld, *openstacktest.Cloud) {
	t.Helper()
	c := openstacktest.New(t, "admin")
	for token, who := range tokens {
		c.Token(token, openstacktest.Who{UserID: who.UserID, ProjectID: who.ProjectID, Roles: who.Roles})
	}
	s, err := swift.New(swift.Config{
		Session: c.Session(t), Projects: true, Locks: &swift.Shared{Clock: clock.System{}}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, nil, func(cfg *api.Config) { cfg.Objects = s })
	w.addLab(t)
	w.guests.objects = s // the gateway writes with the rights of the service
	w.guests.of[labID] = []*fakeLog{{name: "error", system: true, enabled: true}}
	return &logWorld{w, t}, c
}

func TestLogsAreInTheAccountOfTheProject(t *testing.T) {
	w, c := newSwiftWorld(t)
	w.write("error", lines(0, 100))
	if status, text := w.ask("admin_other", http.MethodPost, "", `{"name": "error", "publish": 1}`); status != http.StatusForbidden || !strings.Contains(text, project) {
		t.Errorf("somebody of another project publishes before any of this one has: %d %s", status, text)
	}
	w.act(`{"name": "error", "publish": 1}`)
	found := false
	for _, name := range c.Objects(project, trove.LogContainer, true) {
		found = found || strings.HasPrefix(name, labID+"/mysql-error/log-")
	}
	if !found {
		t.Errorf("the project's account has %v", c.Objects(project, trove.LogContainer, true))
	}
	if got := c.Containers(openstacktest.ServiceProject); len(got) != 0 {
		t.Errorf("the service's account has %v", got)
	}
	if text := w.read(""); text != lines(0, 100) {
		t.Errorf("the text is %q", text)
	}
	w.write("error", lines(100, 110))
	if status, text := w.ask("admin_other", http.MethodPost, "", `{"name": "error", "publish": 1}`); status != http.StatusOK {
		t.Errorf("an administrator of another project publishes: %d %s", status, text)
	}
	if text := w.read(""); text != lines(0, 110) {
		t.Errorf("the text is %q", text)
	}
}

// TestObjectsOfAnotherProjectAreNotAskedFor names what is another project's: nobody asks Swift for it, least of all the service.
func TestObjectsOfAnotherProjectAreNotAskedFor(t *testing.T) {
	w, c := newSwiftWorld(t)
	w.write("error", lines(0, 10))
	w.act(`{"name": "error", "publish": 1}`)
	c.Requests()
	for _, ask := range []struct{ method, path, body string }{
		{http.MethodGet, "", ""},
		{http.MethodGet, "/error/objects", ""},
		{http.MethodGet, "/error/contents", ""},
		{http.MethodPost, "", `{"name": "error", "publish": 1}`},
		{http.MethodPost, "", `{"name": "error", "discard": 1}`},
	} {
		if status, text := w.ask("other", ask.method, ask.path, ask.body); status != http.StatusNotFound {
			t.Errorf("%s %q: %d %s", ask.method, ask.path, status, text)
		}
	}
	if got := c.Requests(); len(got) != 0 {
		t.Errorf("Swift was asked: %+v", got)
	}
	// What the owner asks for is asked for with his own rights.
	w.read("")
	for _, r := range c.Requests() {
		if r.Who.UserID != "u-member" {
			t.Errorf("%s %s was asked by %+v", r.Method, r.Path, r.Who)
		}
	}
}

// TestACallerWhomSwiftRefuses has no role in Swift: he is told, and the service does not do it in his place.
func TestACallerWhomSwiftRefuses(t *testing.T) {
	w, c := newSwiftWorld(t)
	c.Token("member", openstacktest.Who{UserID: "u-member", ProjectID: project, Roles: []string{"reader"}})
	w.write("error", lines(0, 10))
	c.Requests()
	if status, text := w.ask("member", http.MethodPost, "", `{"name": "error", "publish": 1}`); status != http.StatusForbidden {
		t.Errorf("%d %s", status, text)
	}
	for _, r := range c.Requests() {
		if r.Service == "Swift" && r.Who.UserID != "u-member" {
			t.Errorf("%s %s was asked by %+v", r.Method, r.Path, r.Who)
		}
	}
}
