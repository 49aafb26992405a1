package compat_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// evidence is the folder that the tables are written to, one file a client; scripts/compat.sh puts them together.
var evidence = flag.String("evidence", "", "folder for the tables of commands and results")

// report writes what came of the rows.
func (s *suite) report(t *testing.T) {
	t.Helper()
	if *evidence == "" {
		return
	}
	counts := map[string]int{}
	var rows strings.Builder
	for _, o := range s.outcomes {
		kind, _, _ := strings.Cut(o.result, " (")
		kind, _, _ = strings.Cut(kind, ":")
		counts[kind]++
		fmt.Fprintf(&rows, "| `%s` | %s | %s |\n", cell(o.command), cell(o.expected), cell(o.result))
	}
	text := fmt.Sprintf("## %s\n\n%d rows: %d as expected, %d differ on purpose, %d wrong.\n\n| command | expected | result |\n| --- | --- | --- |\n%s\n",
		s.name, len(s.outcomes), counts["as expected"], counts["differs"], counts["WRONG"], rows.String())
	name := strings.NewReplacer(" ", "-", "(", "", ")", "", ",", "", "*", "").Replace(s.name)
	if err := os.WriteFile(filepath.Join(*evidence, name+".md"), []byte(text), 0o600); err != nil {
		t.Error(err)
	}
}

func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
