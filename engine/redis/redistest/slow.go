package redistest

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/enginetest"
)

// slowCommands: with a limit of 0 every command is slow.
func slowCommands(t *testing.T, s enginetest.Setup) {
	ctx, l := t.Context(), s.Layout
	source, keeper := s.Engine.(engine.LogSource), s.Engine.(engine.LogKeeper)
	p := alice()
	p.Settings.Overrides = map[string]json.RawMessage{"slowlog-log-slower-than": json.RawMessage("0"), "slowlog-max-len": json.RawMessage("20")}
	prepared(t, s, p)
	srv := enginetest.Start(t, s)
	c := clientConn(t, s)
	do := func(command string, args ...any) {
		t.Helper()
		_, err := c.Do(command, args...)
		must(t, err)
	}
	all, err := source.Logs(ctx, l)
	must(t, err)
	path := all[1].Path
	text := func() string {
		t.Helper()
		must(t, keeper.KeepLogs(ctx, l))
		data, err := os.ReadFile(path)
		must(t, err)
		return string(data)
	}

	must(t, keeper.KeepLogs(ctx, l))
	if _, err := os.Stat(path); err == nil {
		t.Error("the log is off and has a file")
	}
	do("SET", "before", "1")
	must(t, source.SetLog(ctx, l, "slow_query", true))
	do("SET", "during", "two\nlines \xff")
	do("CLIENT", "SETNAME", "shop-1")
	do("SET", "named", "3")
	got := text()
	for _, want := range []string{`"SET" "during" "two\nlines \xff"` + "\n", ` "shop-1": "SET" "named" "3"` + "\n"} {
		if strings.Count(got, want) != 1 {
			t.Errorf("the log is\n%s\nwant once %q in it", got, want)
		}
	}
	for _, unwanted := range []string{`"before"`, "server.sock", "GETUSER", password.Reveal()} {
		if strings.Contains(got, unwanted) {
			t.Errorf("the log is\n%s\nwant no %s in it", got, unwanted)
		}
	}
	form := regexp.MustCompile(`^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ \d+\.\d{6} s [0-9.:]+( "[^ ]*")?:( "([^"\\]|\\.)*")+$`)
	for line := range strings.Lines(got) {
		if line = strings.TrimSuffix(line, "\n"); !form.MatchString(line) {
			t.Errorf("the line %q has another form", line)
		}
	}
	if again := text(); again != got {
		t.Errorf("nothing was slow, and the log became\n%s", again)
	}
	for range 50 {
		do("SET", "many", "1")
	}
	if got = text(); !strings.Contains(got, " slow commands before this one are missing") || strings.Count(got, `"many"`) < 15 {
		t.Errorf("of 50 slow commands the server keeps 20; the log is\n%s", got)
	}

	srv.Stop()
	if err := keeper.KeepLogs(ctx, l); trove.KindOf(err) != trove.KindUnavailable {
		t.Errorf("KeepLogs() of a stopped server: %v", err)
	}
	srv = enginetest.Start(t, s)
	c = clientConn(t, s)
	do("SET", "afterwards", "1")
	if got = text(); strings.Count(got, `"afterwards"`) != 1 {
		t.Errorf("after a restart the log is\n%s", got)
	}
	do("SET", "last", "1")
	must(t, source.SetLog(ctx, l, "slow_query", false))
	do("SET", "off", "1")
	if got = text(); strings.Count(got, `"last"`) != 1 || strings.Contains(got, `"off"`) {
		t.Errorf("after it was switched off the log is\n%s", got)
	}
	srv.Stop()
}
