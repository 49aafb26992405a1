package attacks_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// notAttacks are the tests of this package that are no attacks themselves.
var notAttacks = map[string]bool{"TestMain": true, "TestThePageListsEveryAttack": true, "TestTheAttackerHasWhatTheAgentHas": true}

// TestThePageListsEveryAttack compares docs/security/attacks.md with the tests of this package: every attack is in the table, numbered without gaps, and
// every test that the table names is there.
func TestThePageListsEveryAttack(t *testing.T) {
	tests := map[string]bool{}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && strings.HasPrefix(f.Name.Name, "Test") && !notAttacks[f.Name.Name] {
				tests[f.Name.Name] = true
			}
		}
	}
	page := readFile(t, filepath.Join(repository, "docs", "security", "attacks.md"))
	listed := map[string]bool{}
	number := 0
	row := regexp.MustCompile("^\\| (\\d+) \\|.*\\| `(Test\\w+)` \\|$")
	for line := range strings.Lines(page) {
		m := row.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		number++
		if want := strings.TrimSpace(m[1]); want != strconv.Itoa(number) {
			t.Errorf("the attack with %s is number %s, want %d", m[2], want, number)
		}
		if listed[m[2]] {
			t.Errorf("%s is in the table twice", m[2])
		}
		listed[m[2]] = true
		if !tests[m[2]] {
			t.Errorf("the table names %s, which is no test", m[2])
		}
	}
	for name := range tests {
		if !listed[name] {
			t.Errorf("%s is not in the table", name)
		}
	}
	if number < 25 {
		t.Errorf("the table has %d attacks, want at least 25", number)
	}
}
