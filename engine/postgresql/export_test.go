package postgresql

import (
	"os"

	"github.com/trove-dbaas/trove/engine"
)

// For the tests in package postgresql_test.
var (
	Quote      = quote
	OwnerOf    = ownerOf
	VerifierOf = verifierOf
	SASLPrep   = saslPrep
	Forbidden  = forbidden
)

// Major is the version of the programs below a root.
func Major(root string) (int, error) { return place{engine.Layout{Root: root}}.major() }

// SystemOf is a data directory's identifier.
func SystemOf(dir string) (string, error) {
	tree, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer func() { _ = tree.Close() }()
	c, err := readControl(tree)
	return c.system(), err
}

// CheckUser is nil for names that users may have.
func CheckUser(name string) error { return checkUser(name, "") }

// Same compares two values of a parameter of a type with a unit.
func Same(kind, unit, a, b string) bool { return elsewhere{value: a, kind: kind, unit: unit}.same(b) }
