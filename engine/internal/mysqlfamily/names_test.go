package mysqlfamily_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine/internal/mysqlfamily"
)

func TestGrantPatternNamesTheSameDatabase(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringOfN(rapid.RuneFrom([]rune(`ab_%\ü'"`+"`")), 1, 64, -1).Draw(t, "name")
		if mysqlfamily.CheckDB(name) != nil {
			t.Skip("not a name")
		}
		pattern := mysqlfamily.GrantPattern(name)
		if got := mysqlfamily.GrantedName(pattern); got != name {
			t.Errorf("GrantedName(GrantPattern(%q)) = %q", name, got)
		}
		if n := utf8.RuneCountInString(pattern); n > 64 {
			t.Errorf("pattern of %q has %d characters", name, n)
		}
	})
}

func TestQuoteIsOneIdentifier(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.String().Draw(t, "name")
		q := mysqlfamily.Quote(name)
		inner := q[1 : len(q)-1]
		if q[0] != '`' || q[len(q)-1] != '`' || strings.Contains(strings.ReplaceAll(inner, "``", ""), "`") {
			t.Errorf("Quote(%q) = %s ends before its end", name, q)
		}
		if got := strings.ReplaceAll(inner, "``", "`"); got != name {
			t.Errorf("Quote(%q) means %q", name, got)
		}
	})
}

func TestHosts(t *testing.T) {
	for host, ok := range map[string]bool{
		"%": true, "10.0.0.%": true, "192.0.2.0/255.255.255.0": true, "db.example": true, "2001:db8::1": true, "a_b": true,
		"": false, "10.0.0.0/8": false, "a b": false, "x'": false, "x`": false, "%\n": false, "host@other": false, strings.Repeat("a", 61): false,
	} {
		err := mysqlfamily.CheckHost(host, 60)
		if (err == nil) != ok || err != nil && trove.KindOf(err) != trove.KindBadRequest {
			t.Errorf("host %q: %v, want accepted %v", host, err, ok)
		}
	}
}

func TestReservedDatabasesInAnyCase(t *testing.T) {
	for _, name := range []string{"MySQL", "INFORMATION_SCHEMA", "Sys", "#mysql50#x", "lost+found"} {
		if err := mysqlfamily.CheckDB(name); trove.KindOf(err) != trove.KindBadRequest {
			t.Errorf("database %q: %v, want it refused", name, err)
		}
	}
}
