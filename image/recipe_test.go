package image_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/image"
)

const goodRecipe = `{"datastore":"d","version":"1.0","manager":"m","suite":"bookworm","packages":["p"],"engine_package":"p",
	"account":{"name":"a","uid":9,"gid":9,"home":"/data/a"},"remove":["usr/share/doc","var/cache/*"],"goldens_mib":[1024,2048],"disk_mib":1}`

func TestParseRecipe(t *testing.T) {
	if _, err := image.ParseRecipe([]byte(goodRecipe)); err != nil {
		t.Fatalf("the good recipe: %v", err)
	}
	for _, change := range [][2]string{
		{`"suite"`, `"suit"`},
		{`"bookworm"`, `"book worm"`},
		{`["p"]`, `["p","--include"]`},
		{`"engine_package":"p"`, `"engine_package":"q"`},
		{`"usr/share/doc"`, `"/usr"`},
		{`"usr/share/doc"`, `"../x"`},
		{`"usr/share/doc"`, `"."`},
		{`"usr/share/doc"`, `"a[b"`},
		{`"uid":9`, `"uid":0`},
		{`[1024,2048]`, `[]`},
		{`[1024,2048]`, `[2048,1024]`},
		{`"disk_mib":1}`, `"disk_mib":1} {}`},
	} {
		bad := strings.Replace(goodRecipe, change[0], change[1], 1)
		if bad == goodRecipe {
			t.Fatalf("%q is not in the recipe", change[0])
		}
		if _, err := image.ParseRecipe([]byte(bad)); err == nil {
			t.Errorf("a recipe with %s was accepted", change[1])
		}
	}
}

func TestParseLock(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	if _, err := image.ParseLock([]byte(`{"suite":"s","packages":[{"name":"p","version":"1","architecture":"all","sha256":"` + sum + `"}]}`)); err != nil {
		t.Errorf("a good lock: %v", err)
	}
	for _, bad := range []string{
		`{"suite":"s","packages":[{"name":"p","version":"1","architecture":"all","sha256":"abcd"}]}`,
		`{"suite":"s","packages":[{"name":"p","architecture":"all","sha256":"` + sum + `"}]}`,
		`{"suite":"s","package":[]}`, ``, `[]`,
	} {
		if _, err := image.ParseLock([]byte(bad)); err == nil {
			t.Errorf("the lock %s was accepted", bad)
		}
	}
}

func TestDiffSaysWhatTheArchiveHasOtherwise(t *testing.T) {
	locked := [][3]string{{"a", "1", "h1"}, {"b", "1", "h2"}, {"c", "1", "h3"}}
	got, err := image.DiffLock(locked, [][3]string{{"a", "1", "h1"}, {"b", "2", "h9"}, {"d", "7", "h4"}})
	must(t, err)
	if diff := cmp.Diff([]string{"b is 2 in place of 1", "c 1 is not needed any more", "d 7 is new"}, got); diff != "" {
		t.Error(diff)
	}
	if got, err := image.DiffLock(locked, locked); err != nil || len(got) > 0 {
		t.Errorf("no change: %v, %v", got, err)
	}
	_, err = image.DiffLock(locked, [][3]string{{"a", "1", "other"}})
	wantSentence(t, err, trove.KindUnprocessable, "another content under the same version of package a")
}

func TestParsePackages(t *testing.T) {
	got, err := image.PackageNames("Package: b\nVersion: 1:2-3\nDescription: x\n more\nArchitecture: amd64\nSHA256: 11\n\nPackage: a\nVersion: 1\nSHA256: 22\n\n" +
		"Package: a\nVersion: 1\nSHA256: 22\n")
	must(t, err)
	if diff := cmp.Diff([][3]string{{"a", "1", "22"}, {"b", "1:2-3", "11"}}, got); diff != "" {
		t.Error(diff)
	}
	if _, err := image.PackageNames("Package: a\nVersion: 1\n"); err == nil {
		t.Error("a package without a hash was accepted")
	}
}

func TestAptSourcesTakesTheDistributionsOwn(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/sources.list", "deb-src http://a.test/debian bookworm main\ndeb [arch=amd64 trusted=yes] http://a.test/debian bookworm main contrib # x\n")
	write(t, dir+"/sources.list.d/debian.sources", "# comment\nTypes: deb\nURIs: http://b.test/debian\nSuites: bookworm bookworm-updates sid\nComponents: main\n"+
		"Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\nTypes: deb\nURIs: http://c.test/security\nSuites: bookworm-security\nComponents: main\n")
	write(t, dir+"/sources.list.d/other.sources", "Types: deb\nURIs: http://evil.test/\nSuites: bookworm\nComponents: main\nSigned-By: /usr/share/keyrings/other.gpg\n\n"+
		"Types: deb\nURIs: http://off.test/\nSuites: bookworm\nComponents: main\nEnabled: no\n")
	write(t, dir+"/sources.list.d/third.list", "deb http://third.test/ nodistro main\ndeb http://tool.test/ bookworm stable\n")
	write(t, dir+"/sources.list.d/ignored.txt", "deb http://ignored.test/ bookworm main\n")
	got, err := image.AptSources(dir, "bookworm")
	must(t, err)
	want := `Types: deb
URIs: http://a.test/debian
Suites: bookworm
Components: main
trusted: yes

Types: deb
URIs: http://b.test/debian
Suites: bookworm bookworm-updates
Components: main
signed-by: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://c.test/security
Suites: bookworm-security
Components: main

`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
}

func TestAptSourcesOfAnotherReleaseOfTheMachine(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/sources.list", "deb http://a.test/debian trixie main\ndeb http://a.test/security trixie-security main\n")
	got, err := image.AptSources(dir, "bookworm")
	must(t, err)
	if !strings.Contains(got, "Suites: bookworm\n") || !strings.Contains(got, "Suites: bookworm-security\n") || strings.Contains(got, "trixie") {
		t.Errorf("sources = %s", got)
	}
}

// TestAptSourcesOfTheUnstableSuite: it has no suites of updates beside it.
func TestAptSourcesOfTheUnstableSuite(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/sources.list", "deb http://a.test/debian bookworm main\ndeb http://a.test/debian bookworm-updates main\ndeb http://a.test/security bookworm-security main\n")
	got, err := image.AptSources(dir, "sid")
	must(t, err)
	if got != "Types: deb\nURIs: http://a.test/debian\nSuites: sid\nComponents: main\n\n" {
		t.Errorf("sources = %s", got)
	}
}
