package compat_test

import (
	"os"
	"testing"
)

// TestPythonClients runs the openstack client and the old shell of two releases.
func TestPythonClients(t *testing.T) {
	s := startServer(t)
	e := readExpectations(t)
	for _, release := range []struct{ name, root string }{{"bookworm", ""}, {"trixie", newerRoot()}} {
		t.Run(release.name, func(t *testing.T) {
			t.Parallel()
			if _, err := os.Stat(release.root + "/usr/bin/openstack"); err != nil {
				t.Fatalf("%v: scripts/compat.sh installs the clients", err)
			}
			p := startPython(t, release.root)
			for _, program := range []struct {
				name, prefix string
				installed    []string
				rows         []row
			}{
				{"openstack", "o-" + release.name, p.Openstack, openstackRows},
				{"trove", "t-" + release.name, p.Trove, troveRows},
			} {
				title := program.name + " of " + release.name + " (python-troveclient " + p.Versions["python-troveclient"] + ", python-openstackclient " +
					p.Versions["python-openstackclient"] + ")"
				c := newSuite(s, e, program.name, title, program.prefix)
				c.call = func(t *testing.T, words []string, admin bool) result {
					t.Helper()
					who := s.member
					if admin {
						who = s.admin
					}
					return p.run(t, s, who, program.name, words)
				}
				checkPage(t, program.name, program.installed)
				c.covers(t, program.installed, program.rows)
				c.run(t, program.rows)
				c.report(t)
			}
		})
	}
}
