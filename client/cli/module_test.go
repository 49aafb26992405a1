package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trove-dbaas/trove/client/cli"
)

// TestRetrieveModules: contents come as they were before they were sent, in files that nobody else reads and that stay where they were asked for.
func TestRetrieveModules(t *testing.T) {
	dir := t.TempDir()
	s := newShell(newFakeAPI())
	out := s.must(t, "module", "retrieve", "shop", "--directory", dir, "--prefix", "x_", "-f", "value")
	want := map[string]string{"x_licence_mariadb_all": "s3cret", "x_.._plain_mariadb_all": "!!!"}
	got := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got[e.Name()] = string(data)
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", e.Name(), info.Mode(), err)
		}
		if !strings.Contains(out, e.Name()) {
			t.Errorf("%s is not named in %q", e.Name(), out)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestWrongCallsOfParts: what is wrong is said before anything is asked of the server.
func TestWrongCallsOfParts(t *testing.T) {
	large := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(large, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for call, want := range map[string]string{
		"backup create b": "Give either --instance or --restore-from.",
		"backup create b -i shop --restore-from x --restore-datastore-version v --restore-size 1": "Give either --instance or --restore-from.",
		"backup create b --restore-from x":                 "restore-datastore-version",
		"backup list shop":                                 `Nothing, or "instance" and a name or id is expected.`,
		"backup show nothing":                              `There is no backup with the id or name "nothing"; ` + "`trove backup list` shows all.",
		"backup strategy create":                           "swift-container",
		"module create m ping /nowhere":                    "The file /nowhere cannot be read.",
		"module create m ping /dev/null":                   "The file /dev/null is empty.",
		"module create m ping " + large:                    "The file " + large + " is larger than 700 KiB.",
		"module update licence":                            "Nothing to change: name at least one flag.",
		"cluster create c mariadb 10.11":                   "instance",
		"cluster grow galera --instance volume=1":          `--instance: "volume=1" names no flavor.`,
		"cluster grow galera --instance flavor":            `--instance: "flavor" is not of the form KEY=VALUE.`,
		"cluster grow galera --instance flavor=1,volume=x": `--instance: volume="x" is not a whole number.`,
		"cluster grow galera --instance flavor=1,colour=x": `--instance: there is no key "colour".`,
		"cluster show nothing":                             `There is no cluster with the id or name "nothing"`,
		"module show nothing":                              `There is no module with the id or name "nothing"`,
	} {
		api := newFakeAPI()
		err := newShell(api).run(t, strings.Fields(call)...)
		if message, code := cli.Explain(err); code == cli.ExitOK || !strings.Contains(message, want) {
			t.Errorf("%s: exit %d: %q, want %q", call, code, message, want)
		}
		if asked := api.asked(); len(asked) > 0 {
			t.Errorf("%s asked for %v", call, asked)
		}
	}
}
