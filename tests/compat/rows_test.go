package compat_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// row is a command and what it does with the original. In all texts $name stands for what is known by then.
type row struct {
	cmd    string // words; those in single quotes are one
	prints string // regular expression that the output matches; between cells of a table is nothing but a "|"
	fails  string // the command ends with an error that matches
	admin  bool   // asked by an administrator
	save   string // name under which the row "id" of the output is kept; or, after a space, what a regular expression finds in the output
	until  string // "ID STATUS": the status that is waited for afterwards
}

// expectations are in testdata/expectations.json.
type expectations struct {
	// Deviations are what differs from the original on purpose, by program and command.
	Deviations map[string]deviation `json:"deviations"`
}

type deviation struct {
	Fails  string `json:"fails,omitempty"`  // in place of the row's
	Prints string `json:"prints,omitempty"` // in place of the row's
	See    string `json:"see"`              // "11.3/N" of the reference, or "compatibility: FIRST CELL" of a row of docs/compatibility.md
	Reason string `json:"reason"`
}

func readExpectations(t *testing.T) expectations {
	t.Helper()
	data, err := os.ReadFile("testdata/expectations.json")
	if err != nil {
		t.Fatal(err)
	}
	var e expectations
	if err := json.Unmarshal(data, &e); err != nil {
		t.Fatal(err)
	}
	return e
}

// outcome is a line of the report.
type outcome struct {
	command, expected, result string
}

// suite runs the rows of one client.
type suite struct {
	name    string // "openstack 8.0.0 (bookworm)"
	program string
	server  *server
	known   map[string]string // the values of $name
	expect  expectations
	// call carries out a command and returns its exit code and output.
	call     func(t *testing.T, words []string, admin bool) result
	outcomes []outcome
}

func newSuite(s *server, e expectations, program, name, prefix string) *suite {
	return &suite{name: name, program: program, server: s, expect: e, known: map[string]string{
		"p": prefix, "datastore": s.datastore, "version": s.version, "versionid": s.versionID, "image": s.image, "manager": s.manager,
		"parameter": s.parameter, "project": s.projectID, "password": "correct-horse-" + prefix, "absent": "0000000f-7a3b-4c8a-bc73-6d4f4d5e6f70",
	}}
}

func (s *suite) expand(text string) string {
	return os.Expand(text, func(name string) string {
		if v, ok := s.known[name]; ok {
			return v
		}
		return "$" + name
	})
}

// pattern is expand for a regular expression.
func (s *suite) pattern(text string) string {
	return os.Expand(text, func(name string) string {
		if v, ok := s.known[name]; ok {
			return regexp.QuoteMeta(v)
		}
		return "$" + name
	})
}

var wordPattern = regexp.MustCompile(`'[^']*'|\S+`)

func (s *suite) words(cmd string) []string {
	all := wordPattern.FindAllString(cmd, -1)
	for i, w := range all {
		all[i] = s.expand(strings.Trim(w, "'"))
	}
	return all
}

// key names a row in the expectations and in the report.
func (s *suite) key(r row) string {
	key := s.program + " " + r.cmd
	if r.admin {
		key += " (administrator)"
	}
	return key
}

// run carries out the rows in their order.
func (s *suite) run(t *testing.T, rows []row) {
	t.Helper()
	for _, r := range rows {
		key := s.key(r)
		got := s.call(t, s.words(r.cmd), r.admin)
		o := outcome{command: key, expected: expected(r.prints, r.fails), result: "as expected"}
		wrong := s.check(t, r.prints, r.fails, got)
		if d, ok := s.expect.Deviations[key]; ok {
			if wrong == "" {
				t.Errorf("%s: %s: is listed as a deviation, and is none", s.name, key)
			}
			wrong = s.check(t, d.Prints, d.Fails, got)
			o.result = fmt.Sprintf("differs (%s): %s", d.See, d.Reason)
		}
		if wrong == "" {
			wrong = s.after(t, r, got)
		}
		if wrong != "" {
			t.Errorf("%s: %s: %s\n%s", s.name, key, wrong, got.Output)
			o.result = "WRONG: " + wrong
		}
		s.outcomes = append(s.outcomes, o)
	}
}

func expected(prints, fails string) string {
	switch {
	case fails != "":
		return "error `" + fails + "`"
	case prints != "":
		return "`" + prints + "`"
	}
	return "succeeds"
}

var (
	betweenCells = regexp.MustCompile(`[ \t]*\|[ \t]*`)
	bytesLiteral = regexp.MustCompile(`\bb'([^']*)'`) // the old shell prints its texts so under Python 3
)

// cells is an output without what only makes tables look well.
func cells(output string) string {
	return betweenCells.ReplaceAllString(bytesLiteral.ReplaceAllString(output, "$1"), "|")
}

// check says what is wrong with a result, "" for nothing.
func (s *suite) check(t *testing.T, prints, fails string, got result) string {
	t.Helper()
	want := prints
	if fails != "" {
		want = fails
	}
	re, err := regexp.Compile("(?is)" + s.pattern(want))
	if err != nil {
		t.Fatalf("%s: %v", want, err)
	}
	switch {
	case fails == "" && got.Code != 0:
		return fmt.Sprintf("exit code %d", got.Code)
	case fails != "" && got.Code == 0:
		return "no error"
	case !re.MatchString(cells(got.Output)):
		return "the output has no " + re.String()
	}
	return ""
}

var idPattern = regexp.MustCompile(`(?m)^\|id\|([^|]+)\|`)

// after keeps what a row gives to later ones, and waits.
func (s *suite) after(t *testing.T, r row, got result) string {
	t.Helper()
	if name, find, own := strings.Cut(r.save, " "); name != "" && got.Code == 0 {
		re := idPattern
		if own {
			re = regexp.MustCompile(s.pattern(find))
		}
		m := re.FindStringSubmatch(cells(got.Output))
		if m == nil {
			return "the output has no " + re.String()
		}
		s.known[name] = m[1]
	}
	if id, status, ok := strings.Cut(s.expand(r.until), " "); ok {
		if strings.HasPrefix(id, "$") {
			return id + " is not known"
		}
		who := s.server.member
		if r.admin {
			who = s.server.admin
		}
		if err := await(t.Context(), s.server.client(t, who), id, status); err != nil {
			return err.Error()
		}
	}
	return ""
}

// covers fails for every command that no row has, for rows of no command, and for two rows of one name.
func (s *suite) covers(t *testing.T, installed []string, rows []row) {
	t.Helper()
	missing := map[string]bool{}
	for _, c := range installed {
		missing[c] = true
	}
	seen := map[string]bool{}
	for _, r := range rows {
		if key := s.key(r); seen[key] {
			t.Errorf("%s: %s: two rows", s.name, key)
		}
		seen[s.key(r)] = true
		c := commandOf(installed, r.cmd)
		if c == "" {
			t.Errorf("%s: %s: no such command is installed", s.name, r.cmd)
		}
		delete(missing, c)
	}
	for c := range missing {
		t.Errorf("%s: %s has no row", s.name, c)
	}
}

// commandOf returns the longest command that a line begins with.
func commandOf(installed []string, line string) string {
	found := ""
	for _, c := range installed {
		if len(c) > len(found) && strings.HasPrefix(line+" ", c+" ") {
			found = c
		}
	}
	return found
}
