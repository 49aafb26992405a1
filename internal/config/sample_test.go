package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/trove-dbaas/trove/internal/config"
)

func loadText(t *testing.T, text string) (config.Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "trove.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Load(file, nil)
}

func TestSampleIsAValidConfigurationForOpenStack(t *testing.T) {
	c, err := loadText(t, config.Sample())
	if err != nil {
		t.Fatalf("%v\n%s", err, config.Sample())
	}
	if c.Cloud != config.CloudOpenStack || c.Bus.Address == "" || c.OpenStack.AuthURL == "" || c.Identity.Driver != config.IdentityKeystone {
		t.Errorf("%+v", c)
	}
}

// What stands behind "#" is what holds without it.
func TestWhatIsCommentedOutInTheSampleAreTheDefaults(t *testing.T) {
	with, err := loadText(t, config.Sample())
	if err != nil {
		t.Fatal(err)
	}
	without, err := loadText(t, regexp.MustCompile(`(?m)^( *)#(\w)`).ReplaceAllString(config.Sample(), "$1$2"))
	if err != nil {
		t.Fatal(err)
	}
	other := without.Keys()
	for n, k := range with.Keys() {
		if fmt.Sprint(k.Value) != fmt.Sprint(other[n].Value) {
			t.Errorf("%s is %v, and uncommented %v", k.Name, k.Value, other[n].Value)
		}
	}
}

func TestSampleExplainsEveryKeyOfThisCloud(t *testing.T) {
	sample := config.Sample()
	c := config.Default()
	for _, k := range c.Keys() {
		if strings.HasPrefix(k.Name, "local.") {
			continue
		}
		name := k.Name[strings.LastIndex(k.Name, ".")+1:]
		if first, _, _ := strings.Cut(k.Doc, " "); !strings.Contains(sample, name+":") || !strings.Contains(sample, "# "+first) {
			t.Errorf("%s is not explained", k.Name)
		}
	}
}
