package image_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// noted are the releases of PostgreSQL that note in each column which of them made it. One that does not takes no data of one that does.
var noted = map[string]int{"15": 20, "17": 12, "18": 7}

// lockedRelease is the number after the point of the PostgreSQL that a lock has.
func lockedRelease(t *testing.T, version string) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("locks", "postgresql-"+version+".json"))
	must(t, err)
	var lock struct {
		Packages []struct{ Name, Version string } `json:"packages"`
	}
	must(t, json.Unmarshal(data, &lock))
	for _, p := range lock.Packages {
		if p.Name != "postgresql-"+version {
			continue
		}
		var release int
		if _, err := fmt.Sscanf(p.Version, version+".%d", &release); err != nil {
			t.Fatalf("the version %s of %s is no release: %v", p.Version, p.Name, err)
		}
		return release
	}
	t.Fatalf("the lock of PostgreSQL %s has no server", version)
	return 0
}

// TestDocumentsSayWhichUpgradesAreRefused fails when the archive has moved: then the documents promise too much or, happily, too little.
func TestDocumentsSayWhichUpgradesAreRefused(t *testing.T) {
	refused := false
	for _, from := range []string{"15", "17"} {
		refused = refused || lockedRelease(t, from) >= noted[from] && lockedRelease(t, "18") < noted["18"]
	}
	for path, sentence := range map[string]string{
		"upgrades.md": "and the unstable suite has 18.6", "drivers/engine-postgresql.md": "**18.7 mends it**", "compatibility.md": "while its release is older than 18.7",
	} {
		data, err := os.ReadFile(filepath.Join("..", "docs", path))
		must(t, err)
		if said := strings.Contains(string(data), sentence); said != refused {
			t.Errorf("docs/%s says that upgrades to PostgreSQL 18 are refused (%q): %t; by the releases in the locks they are: %t", path, sentence, said, refused)
		}
	}
}
