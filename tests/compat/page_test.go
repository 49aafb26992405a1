package compat_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	pageRow  = regexp.MustCompile("(?m)^\\| `((?:openstack|trove) [^`]+)` \\| (?:`trove ([^`]+)`|–) \\| (.*) \\|$")
	verbHead = regexp.MustCompile("(?m)^### (.+)$")
)

// checkPage fails for each command of a client that docs/cli-from-openstack.md does not have, and for each that no client has.
func checkPage(t *testing.T, program string, installed []string) {
	t.Helper()
	page, err := os.ReadFile("../../docs/cli-from-openstack.md")
	if err != nil {
		t.Fatal(err)
	}
	missing := map[string]bool{}
	for _, c := range installed {
		missing[c] = true
	}
	for _, m := range pageRow.FindAllStringSubmatch(string(page), -1) {
		line, ours := strings.CutPrefix(m[1], program+" ")
		if !ours {
			continue
		}
		c := commandOf(installed, line)
		if c == "" {
			t.Errorf("docs/cli-from-openstack.md: there is no command %s", m[1])
		}
		delete(missing, c)
	}
	for c := range missing {
		t.Errorf("docs/cli-from-openstack.md has no row for %s %s", program, c)
	}
}

// TestPageNamesVerbsThatExist checks the other column: each is a verb of docs/cli.md, which is made from the program, or the row says why there is none.
func TestPageNamesVerbsThatExist(t *testing.T) {
	page, err := os.ReadFile("../../docs/cli-from-openstack.md")
	if err != nil {
		t.Fatal(err)
	}
	reference, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	var verbs []string
	for _, m := range verbHead.FindAllStringSubmatch(string(reference), -1) {
		verbs = append(verbs, m[1])
	}
	rows := pageRow.FindAllStringSubmatch(string(page), -1)
	if len(rows) < 150 {
		t.Errorf("only %d rows", len(rows))
	}
	for _, m := range rows {
		verb := m[2]
		switch {
		case verb == "" && m[3] == "":
			t.Errorf("%s: neither a verb nor a reason", m[1])
		case verb != "" && !slices.Contains(verbs, verb):
			t.Errorf("%s: there is no verb %q", m[1], verb)
		}
	}
}
