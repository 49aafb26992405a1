package compat_test

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// lastDefect is the last number of the table of Trove's defects, section 11.3 of the reference.
const lastDefect = 23

var firstCell = regexp.MustCompile(`(?m)^\| ([^|]+) \|`)

// TestExpectationsHaveReasons checks the list of deviations: each says why, and where it is documented.
func TestExpectationsHaveReasons(t *testing.T) {
	e := readExpectations(t)
	page, err := os.ReadFile("../../docs/compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	var cells []string
	for _, m := range firstCell.FindAllStringSubmatch(string(page), -1) {
		cells = append(cells, m[1])
	}
	var rows []string
	for program, table := range map[string][]row{"openstack": openstackRows, "trove": troveRows, "horizon": horizonRows, "tempest": tempestRows} {
		s := suite{program: program}
		for _, r := range table {
			rows = append(rows, s.key(r))
		}
	}
	for key, d := range e.Deviations {
		if d.Reason == "" {
			t.Errorf("%s: no reason", key)
		}
		program, _, _ := strings.Cut(key, " ")
		if slices.Contains([]string{"openstack", "trove", "horizon", "tempest"}, program) && !slices.Contains(rows, key) {
			t.Errorf("%s: there is no such row", key)
		}
		number, defect := strings.CutPrefix(d.See, "11.3/")
		subject, documented := strings.CutPrefix(d.See, "compatibility: ")
		switch n, err := strconv.Atoi(number); {
		case defect && (err != nil || n < 1 || n > lastDefect):
			t.Errorf("%s: %s is not a number of section 11.3", key, d.See)
		case documented && !slices.ContainsFunc(cells, func(c string) bool { return strings.HasPrefix(c, subject) }):
			t.Errorf("%s: docs/compatibility.md has no row that begins with %q", key, subject)
		case !defect && !documented:
			t.Errorf("%s: %q names no number of section 11.3 and no row of docs/compatibility.md", key, d.See)
		}
	}
}
