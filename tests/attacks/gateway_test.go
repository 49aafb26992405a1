package attacks_test

import (
	"encoding/json"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func gatewayRefused(reason string) string {
	return metric("trove_gateway_refused_total", "reason", reason)
}

// grant lets a guest publish a log, and returns the grant to write which it got for that: its agent and the attacker both hear the command.
func (a *attack) grant(guest string) string {
	a.t.Helper()
	r := a.during(guest, "grant", a.to(), func() { a.Trove("log", "publish", guest, "error") })
	if r.Facts["grant"] == "" {
		a.t.Fatal("no grant was heard")
	}
	return r.Facts["grant"]
}

// objects are the files behind the gateway, with their content.
func (a *attack) objects() map[string]string {
	a.t.Helper()
	all := map[string]string{}
	root := filepath.Join(a.State, "objects")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		all[strings.TrimPrefix(path, root)] = string(data)
		return err
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return all
}

// unchanged checks that objects that were there are as they were, and that all new ones are the guest's own.
func (a *attack) unchanged(before map[string]string, own string) {
	a.t.Helper()
	now := a.objects()
	for name, content := range before {
		if now[name] != content {
			a.t.Errorf("the object %s was changed", name)
		}
	}
	added := 0
	for name := range now {
		if _, was := before[name]; was {
			continue
		}
		added++
		if !strings.Contains(name, own) {
			a.t.Errorf("the attack made %s", name)
		}
	}
	if added == 0 {
		a.t.Error("the control made no object")
	}
}

func TestPlayTricksWithThePathsOfObjects(t *testing.T) {
	a := begin(t)
	guest := a.fresh("paths")
	in := a.to()
	in["grant"] = a.grant(guest)
	before := a.objects()
	a.insideOf(guest, "gateway-paths", in)
	a.unchanged(before, guest)
	a.counted(gatewayRefused("path"), 10)
	a.counted(gatewayRefused("prefix"), 1)
	a.logged("object request refused", guest)
}

func TestReadAndWriteTheObjectsOfOthers(t *testing.T) {
	a := begin(t)
	guest, other := a.fresh("objects"), a.fresh("published")
	in := a.to()
	in["leaked"], in["neighbour"] = a.grant(other), other
	in["grant"] = a.grant(guest)
	in["project"] = "0123456789abcdef0123456789abcdef"
	before := a.objects()
	var theirs []string
	for name := range before {
		if i := strings.Index(name, other); i >= 0 {
			plain, err := url.PathUnescape(strings.TrimSuffix(strings.ReplaceAll(name[i:], ".d/", "/"), ".o")) // the name in the store, from the file's
			if err != nil {
				t.Fatal(err)
			}
			theirs = append(theirs, plain)
		}
	}
	if len(theirs) == 0 {
		t.Errorf("the neighbour has no objects among %d", len(before))
	}
	in["objects"] = strings.Join(theirs[:min(3, len(theirs))], " ")
	a.insideOf(guest, "gateway-others", in)
	a.unchanged(before, guest)
	a.counted(gatewayRefused("guest"), 3)
	a.counted(gatewayRefused("token"), 4)
	a.counted(gatewayRefused("prefix"), 2)
	a.logged("object request refused", guest)
}

// The releases that the attack puts into the guest: a foreign program with an own signature, one that is not signed, and one that the deployment
// signed but is older than what ran.
func TestDowngradeOrReplaceTheAgent(t *testing.T) {
	a := begin(t)
	guest := a.fresh("agent")
	dir := t.TempDir()
	program := filepath.Join(dir, "agent")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=1.1.0", "-o", program, "./cmd/trove-guestagent")
	build.Dir, build.Env = repository, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	stranger, key := filepath.Join(dir, "stranger"), filepath.Join(a.State, "keys", "agent-release")
	a.Trove("manage", "agent", "keygen", stranger)
	sign := func(program, key, version string) (manifest, signature []byte) {
		out := filepath.Join(t.TempDir(), version)
		a.Trove("manage", "agent", "sign", program, "--key", key, "--release", version, "--out", out)
		return []byte(readFile(t, filepath.Join(out, "manifest.json"))), []byte(readFile(t, filepath.Join(out, "manifest.sig")))
	}
	admin := *a.Deployment
	admin.Env = append([]string{}, a.Env...)
	if err := admin.ReadOpenrc("openrc-admin"); err != nil {
		t.Fatal(err)
	}
	current := filepath.Join(t.TempDir(), "1.1.0")
	a.Trove("manage", "agent", "sign", program, "--key", key, "--release", "1.1.0", "--out", current)
	a.Trove("manage", "agent", "add", current, "--state", a.State)
	admin.Trove("agent", "upgrade", guest)

	type release struct {
		Name, Version       string
		Manifest, Signature []byte
		Foreign             bool
	}
	var releases []release
	foreign, foreignSignature := sign(attackerProgram(), stranger, "1.7.0")
	releases = append(releases, release{"a foreign program with an own signature", "1.7.0", foreign, foreignSignature, true})
	unsigned, _ := sign(attackerProgram(), stranger, "1.8.0")
	releases = append(releases, release{"a foreign program without a signature", "1.8.0", unsigned, nil, true})
	older, olderSignature := sign(filepath.Join(repository, "bin", "trove-guestagent"), key, "1.0.5")
	releases = append(releases, release{"an older release that the deployment signed", "1.0.5", older, olderSignature, false})
	newer, newerSignature := sign(program, key, "1.9.0")
	releases = append(releases, release{"a signed manifest with another program", "1.9.0", newer, newerSignature, true})
	data, err := json.Marshal(releases)
	if err != nil {
		t.Fatal(err)
	}
	a.insideOf(guest, "release", map[string]string{"releases": string(data)})
	console := readFile(t, filepath.Join(a.runDir(), "i", guest, "console.log"))
	for _, want := range []string{"release of the agent was refused", "older than 1.1.0"} {
		if !strings.Contains(console, want) {
			t.Errorf("the guest's console lacks %q", want)
		}
	}
}

func attackerProgram() string { return program }
