package image

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
)

// suiteParts are the suites that belong to one release: "bookworm", "bookworm-updates", "bookworm-security".
var suiteParts = regexp.MustCompile(`^([a-z]+)(-updates|-security|-proposed-updates|/updates)?$`)

// rolling are the suites that are never released: their updates come to the suite itself.
var rolling = []string{"sid", "unstable"}

// aptSources returns the machine's own sources for the suite, in deb822 form, those of other origins left out. Where the machine runs another
// release of the same distribution, its archive's addresses are taken with the wanted suite's name.
func aptSources(aptDir, suite string) (string, error) {
	stanzas, err := readStanzas(aptDir)
	if err != nil {
		return "", err
	}
	for _, wanted := range []func(base string) bool{
		func(base string) bool { return base == suite },
		func(base string) bool { return base != "stable" && base != "nodistro" },
	} {
		var out strings.Builder
		for _, s := range stanzas {
			if text, ok := s.forSuite(suite, wanted); ok {
				out.WriteString(text)
				out.WriteString("\n")
			}
		}
		if out.Len() > 0 {
			return out.String(), nil
		}
	}
	return "", trove.Errorf(trove.KindUnavailable, "The apt configuration in %s names no archive of the distribution's main packages; add one.", aptDir)
}

// stanza is a source: field names in lower case.
type stanza map[string]string

// forSuite renders the source for the suite if it is one of the distribution's own and wanted.
func (s stanza) forSuite(suite string, wanted func(base string) bool) (string, bool) {
	if strings.EqualFold(s["enabled"], "no") || !slices.Contains(strings.Fields(s["types"]), "deb") || !slices.Contains(strings.Fields(s["components"]), "main") {
		return "", false
	}
	if key := s["signed-by"]; key != "" && !strings.Contains(key, "debian-archive") && !strings.Contains(key, "BEGIN PGP") {
		return "", false // another origin
	}
	var suites []string
	for name := range strings.FieldsSeq(s["suites"]) {
		if m := suiteParts.FindStringSubmatch(name); m != nil && wanted(m[1]) && (m[2] == "" || !slices.Contains(rolling, suite)) {
			suites = append(suites, suite+m[2])
		}
	}
	if len(suites) == 0 {
		return "", false
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n", s["uris"], strings.Join(suites, " "))
	for _, field := range []string{"signed-by", "trusted", "check-valid-until"} {
		if v := s[field]; v != "" {
			fmt.Fprintf(&b, "%s: %s\n", field, v)
		}
	}
	return b.String(), true
}

// readStanzas reads sources.list and what lies in sources.list.d, in both forms that apt knows.
func readStanzas(aptDir string) ([]stanza, error) {
	names := []string{filepath.Join(aptDir, "sources.list")}
	for _, pattern := range []string{"*.list", "*.sources"} {
		found, err := filepath.Glob(filepath.Join(aptDir, "sources.list.d", pattern))
		if err != nil {
			return nil, fmt.Errorf("read the apt configuration: %w", err)
		}
		names = append(names, found...)
	}
	var all []stanza
	for _, name := range names {
		data, err := os.ReadFile(name)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the apt configuration: %w", err)
		}
		if strings.HasSuffix(name, ".sources") {
			all = append(all, parseSources(string(data))...)
		} else {
			all = append(all, parseList(string(data))...)
		}
	}
	return all, nil
}

// parseSources reads the deb822 form: stanzas of fields, with continuation lines.
func parseSources(text string) []stanza {
	var all []stanza
	current, field := stanza{}, ""
	flush := func() {
		if len(current) > 0 {
			all = append(all, current)
		}
		current, field = stanza{}, ""
	}
	for line := range strings.SplitSeq(text, "\n") {
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.TrimSpace(line) == "":
			flush()
		case strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t"):
			current[field] += "\n " + strings.TrimSpace(line)
		default:
			name, value, _ := strings.Cut(line, ":")
			field = strings.ToLower(strings.TrimSpace(name))
			current[field] = strings.TrimSpace(value)
		}
	}
	flush()
	return all
}

var listLine = regexp.MustCompile(`^deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+(.+)$`)

// parseList reads the form with one source in a line.
func parseList(text string) []stanza {
	var all []stanza
	for line := range strings.SplitSeq(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		m := listLine.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		s := stanza{"types": "deb", "uris": m[2], "suites": m[3], "components": m[4]}
		for option := range strings.FieldsSeq(m[1]) {
			if name, value, found := strings.Cut(option, "="); found {
				s[strings.ToLower(name)] = value
			}
		}
		all = append(all, s)
	}
	return all
}
