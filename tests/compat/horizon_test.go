package compat_test

import (
	_ "embed"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// notPackaged are panels that the package announces, and whose code it has not got.
var notPackaged = []string{"backup_strategies", "ng_database_backups"}

//go:embed horizon.py
var horizonScript string

// horizon is a process of the dashboard and of a browser in it, in which somebody is logged in.
type horizon struct {
	conversation

	Views    []string          // patterns of the paths of its pages
	Buttons  []string          // of its tables, "TABLE BUTTON"
	Absent   []string          // panels that the package announces and has not got
	Versions map[string]string // of the packages
}

// dashboardRoot is the root file system with the Horizon and Tempest of a release, which scripts/client-root.sh makes beside that of the clients.
func dashboardRoot(t *testing.T, release string) string {
	t.Helper()
	dir := filepath.Join(filepath.Dir(newerRoot()), release+"-dashboard")
	if _, err := os.Stat(filepath.Join(dir, "usr/share/openstack-dashboard")); err != nil {
		t.Fatalf("%v: scripts/compat.sh makes it", err)
	}
	return dir
}

func startHorizon(t *testing.T, root string, s *server, who login) *horizon {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "chroot", root, "/usr/bin/python3", "-W", "ignore", "-c", horizonScript)
	h := &horizon{conversation: converse(t, cmd)}
	h.ask(t, map[string]string{"user": who.user, "password": who.password.Reveal(), "auth_url": s.authURL}, h)
	return h
}

// coversPages fails for each page and button that no row uses, and for each row that uses none.
func (h *horizon) coversPages(t *testing.T, s *suite) {
	t.Helper()
	pages, buttons := map[string]bool{}, map[string]bool{}
	for _, r := range horizonRows {
		words := s.words(r.cmd)
		path, _, _ := strings.Cut(words[1], "?")
		used := ""
		for _, view := range h.Views {
			if regexp.MustCompile("^" + view + "$").MatchString(path) {
				used = view
				break
			}
		}
		if used == "" {
			t.Errorf("%s: there is no such page", r.cmd)
		}
		pages[used] = true
		if words[0] == "press" {
			buttons[words[2]+" "+words[3]] = true
		}
	}
	for _, view := range h.Views {
		if !pages[view] {
			t.Errorf("no row uses the page %s", view)
		}
	}
	for _, b := range h.Buttons {
		if !buttons[b] {
			t.Errorf("no row presses the button %s", b)
		}
	}
}

// TestHorizon uses every page and button of trove-dashboard, of two releases. Nova, Cinder and Neutron, which its forms ask for flavors, zones, volume types and
// networks, and a Swift without which it hides pages, are those of tests/inmemory/neighbours.go.
func TestHorizon(t *testing.T) {
	for _, release := range []string{"bookworm", "trixie"} {
		t.Run(release, func(t *testing.T) {
			s, root := startServerBeside(t), dashboardRoot(t, release)
			member, admin := startHorizon(t, root, s, s.member), startHorizon(t, root, s, s.admin)
			title := "Horizon of " + release + " (horizon " + member.Versions["horizon"] + ", trove-dashboard " + member.Versions["trove-dashboard"] + ")"
			c := newSuite(s, readExpectations(t), "horizon", title, "h")
			c.known["flavorfield"] = hex.EncodeToString([]byte(s.datastore + " - " + s.version)) // what the forms call it
			c.call = func(t *testing.T, words []string, isAdmin bool) result {
				t.Helper()
				if isAdmin {
					return admin.do(t, words)
				}
				return member.do(t, words)
			}
			if !slices.Equal(member.Absent, notPackaged) {
				t.Errorf("the panels %v have no code in the package, not %v", member.Absent, notPackaged)
			}
			member.coversPages(t, c)
			c.run(t, horizonRows)
			c.report(t)
		})
	}
}

// do uses a page.
func (h *horizon) do(t *testing.T, words []string) result {
	t.Helper()
	var r result
	h.ask(t, map[string]any{"args": words}, &r)
	if strings.Contains(r.Output, "error: HTTP 5") {
		t.Errorf("%v: no page may be a 500:\n%s", words, r.Output)
	}
	return r
}
