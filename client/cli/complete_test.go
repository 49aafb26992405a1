package cli_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDynamicCompletion(t *testing.T) {
	const none = ":4\n"
	for call, want := range map[string]string{
		"instance show":               "shop\naltes Lager\n" + none,
		"instance show shop":          none,
		"instance delete":             "shop\naltes Lager\n" + none,
		"instance delete shop":        "altes Lager\n" + none,
		"instance connect":            "shop\naltes Lager\n" + none,
		"user list":                   "shop\naltes Lager\n" + none,
		"operation show":              "shop\naltes Lager\n" + none,
		"instance resize flavor shop": "db.tiny\ndb.small\n" + none,
		"instance resize volume shop": none,
		"flavor show":                 "db.tiny\ndb.small\n" + none,
		"flavor show db.tiny":         none,
		"datastore show":              "mariadb\npostgresql\n" + none,
		"datastore version list":      "mariadb\npostgresql\n" + none,
		"instance create x --flavor":  "db.tiny\ndb.small\n" + none,
		"backup show":                 "nightly\nfull\n" + none,
		"backup delete nightly":       "full\n" + none,
		"backup create x --instance":  "shop\naltes Lager\n" + none,
		"module apply shop":           "licence\n" + none,
		"module update":               "licence\n" + none,
		"cluster upgrade":             "galera\n" + none,
		"cluster delete":              "galera\n" + none,
		"instance create x --backup":  "nightly\nfull\n" + none,
		"instance list --format":      "table\njson\nyaml\ncsv\nvalue\n" + none,
	} {
		t.Run(call, func(t *testing.T) {
			s := newShell(newFakeAPI())
			got := s.must(t, append(append([]string{"__complete"}, strings.Fields(call)...), "")...)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestCompletionWithoutAServerIsQuiet(t *testing.T) {
	s := newShell(answer{500, ""})
	if out := s.must(t, "__complete", "instance", "show", ""); out != ":1\n" {
		t.Errorf("completed %q", out)
	}
	delete(s.vars, "OS_AUTH_URL")
	if out := s.must(t, "__complete", "flavor", "show", ""); out != ":1\n" {
		t.Errorf("completed %q", out)
	}
}

func TestCompletionScriptsLoad(t *testing.T) {
	script := newShell(newFakeAPI()).must(t, "completion", "bash")
	file := filepath.Join(t.TempDir(), "trove.bash")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	// The program itself is replaced by a function that answers as `trove __complete` does.
	const use = `. "$1" || exit 1
trove() { printf 'shop\nshow-room\n:4\n'; }
_get_comp_words_by_ref() { cur=sho; prev=show; words=(trove instance show sho); cword=3; }
__ltrim_colon_completions() { :; }
compopt() { :; } # works inside a real completion only
complete -p trove
COMP_LINE='trove instance show sho' COMP_POINT=23 COMP_TYPE=9 COMP_WORDS=(trove instance show sho) COMP_CWORD=3
__start_trove
printf '%s\n' "${COMPREPLY[@]}"`
	cmd := exec.CommandContext(t.Context(), "bash", "-c", use, "bash", file)
	cmd.Env = append(os.Environ(), "LC_ALL=C") // of a locale that this machine does not have it would speak
	out, err := cmd.CombinedOutput()
	if want := "complete -o default -F __start_trove trove\nshop\nshow-room\n"; err != nil || string(out) != want {
		t.Errorf("%v\n%s", err, out)
	}
	for shell, want := range map[string]string{"zsh": "#compdef trove", "fish": "complete -c trove"} {
		script := newShell(newFakeAPI()).must(t, "completion", shell)
		if !strings.Contains(script, want) {
			t.Errorf("the script for %s lacks %q", shell, want)
		}
		check(t, shell, script)
	}
}

// check lets a shell that is installed read a script without running it.
func check(t *testing.T, shell, script string) {
	t.Helper()
	path, err := exec.LookPath(shell)
	if err != nil {
		return
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), path, "-n")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", shell, err, out)
	}
}
