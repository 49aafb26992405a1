package openstack_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// images are the files that scripts/openstack.sh has built.
func images(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(repository, "var", "openstack", "images", "*.qcow2"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no images in var/openstack/images: scripts/openstack.sh builds them (%v)", err)
	}
	return found
}

// TestStory is what CI shows; with LONG=1 also the parts that take more time, and PostgreSQL.
func TestStory(t *testing.T) {
	long := os.Getenv("LONG") != ""
	c := lab(t)
	built := images(t)
	s := newService(t, built...)
	t.Run("isolation", func(t *testing.T) { isolation(t, c, s) })
	t.Run("foreigners", func(t *testing.T) { foreigners(t, c, s) })
	tell(t, c, s, mariadb(), long)
	if long {
		tell(t, c, s, postgresql(), long)
		adoption(t, c, s, mariadbContainer(mariadb()))
		if slices.ContainsFunc(built, func(file string) bool { return strings.HasPrefix(filepath.Base(file), "mysql-") }) {
			adoption(t, c, s, mysqlContainer(mysql()))
		}
	}
}
