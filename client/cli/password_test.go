package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client/cli"
)

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// verbsWithPassword are the calls that give a new user a password.
var verbsWithPassword = map[string][]string{
	"user create":     {"user", "create", "shop", "app"},
	"instance create": {"instance", "create", "shop", "--flavor", "1", "--user", "app", "--user", "other"},
}

// sent returns the passwords of the only change.
func sent(t *testing.T, api *fakeAPI) []string {
	t.Helper()
	changes := api.asked()
	if len(changes) != 1 {
		t.Fatalf("%d changes: %q", len(changes), changes)
	}
	_, text, _ := strings.Cut(changes[0], "{")
	var body struct {
		Users    []wire.UserCreate   `json:"users"`
		Instance wire.InstanceCreate `json:"instance"`
	}
	if err := json.Unmarshal([]byte("{"+text), &body); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, u := range append(body.Users, body.Instance.Users...) {
		all = append(all, u.Password)
	}
	if len(all) == 0 {
		t.Fatalf("no user in %q", changes[0])
	}
	return all
}

func TestPasswordSources(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pw")
	writeFile(t, file, "from file\r\nsecond line\n")
	for verb, call := range verbsWithPassword {
		for want, source := range map[string]struct {
			flags    []string
			stdin    string
			terminal bool
		}{
			"from file":     {flags: []string{"--password-file", file}, terminal: true},
			"from stdin":    {flags: []string{"--password-file", "-"}, stdin: "from stdin"},
			"from terminal": {terminal: true},
		} {
			t.Run(verb+" "+want, func(t *testing.T) {
				api := newFakeAPI()
				s := newShell(api)
				s.stdin = source.stdin
				var prompts []string
				if source.terminal {
					s.env.ReadPassword = asking("from terminal", &prompts)
				}
				out := s.must(t, append(call, source.flags...)...)
				for _, got := range sent(t, api) {
					if got != want {
						t.Errorf("sent the password %q", got)
					}
				}
				if strings.Contains(out+s.stderr.String(), want) {
					t.Errorf("a given password is shown: %s%s", out, s.stderr.String())
				}
				if asked := len(prompts) > 0; asked != (want == "from terminal") {
					t.Errorf("prompts: %q", prompts)
				}
			})
		}
	}
}

func TestPasswordIsMadeAndShownOnce(t *testing.T) {
	for verb, call := range verbsWithPassword {
		for _, terminal := range []bool{false, true} {
			api := newFakeAPI()
			s := newShell(api)
			s.vars["XDG_CACHE_HOME"] = t.TempDir()
			var prompts []string
			if terminal {
				s.env.ReadPassword = asking("", &prompts) // Enter alone
			}
			out := s.must(t, call...)
			all := sent(t, api)
			made := all[0]
			if !regexp.MustCompile(`^[a-zA-Z2-9]{24}$`).MatchString(made) {
				t.Errorf("%s: made the password %q", verb, made)
			}
			for _, other := range all {
				if other != made {
					t.Errorf("%s: one of the users has another password, which is not shown", verb)
				}
			}
			if strings.Count(out, made) != 1 || strings.Contains(s.stderr.String(), made) {
				t.Errorf("%s: the password is not shown exactly once:\n%s%s", verb, out, s.stderr.String())
			}
			notOnDisk(t, s.vars["XDG_CACHE_HOME"], made)
		}
	}
}

func notOnDisk(t *testing.T, dir, secret string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("the token's cache: %v, %v", files, err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), secret) {
			t.Errorf("%s holds the password", f)
		}
	}
}

func TestPasswordsDiffer(t *testing.T) {
	seen := map[string]bool{}
	for range 20 {
		api := newFakeAPI()
		newShell(api).must(t, verbsWithPassword["user create"]...)
		seen[sent(t, api)[0]] = true
	}
	if len(seen) != 20 {
		t.Errorf("%d different passwords of 20", len(seen))
	}
}

func TestEmptyPasswordFileIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pw")
	writeFile(t, file, "\nsecret\n")
	for verb, call := range verbsWithPassword {
		for source, want := range map[string]string{
			file:          "The first line of " + file + " is empty: it should be the password.",
			"-":           "The first line of the standard input is empty: it should be the password.",
			file + ".not": "The password file " + file + ".not cannot be read.",
		} {
			api := newFakeAPI()
			message, code := cli.Explain(newShell(api).run(t, append(call, "--password-file", source)...))
			if message != want || code != cli.ExitFailed || len(api.asked()) > 0 {
				t.Errorf("%s: %q, exit code %d, asked %q", verb, message, code, api.asked())
			}
		}
	}
}

func TestUserUpdateAsksForThePassword(t *testing.T) {
	api := newFakeAPI()
	s := newShell(api)
	var prompts []string
	s.env.ReadPassword = asking("new", &prompts)
	s.must(t, "user", "update", "shop", "app", "--password")
	if c := api.asked(); len(c) != 1 || !strings.HasSuffix(c[0], `/users/app {"user":{"password":"new"}}`) || len(prompts) != 1 {
		t.Errorf("asked %q, prompts %q", c, prompts)
	}
	s.env.ReadPassword = nil
	if message, _ := cli.Explain(s.run(t, "user", "update", "shop", "app", "--password")); message != "The new password is empty." {
		t.Errorf("without a terminal: %q", message)
	}
}
