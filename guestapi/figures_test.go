package guestapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus/membus"
	"github.com/trove-dbaas/trove/guestapi"
)

// answering serves a guest that knows the commands for figures and says what answer holds.
func answering(t *testing.T, answer *any) *guestapi.Client {
	t.Helper()
	return serve(t, membus.New(), func(_ context.Context, r guestapi.Request) (any, error) {
		if r.Command == guestapi.CmdPing {
			return guestapi.Hello{
				BootID: "b", AgentVersion: "1", Protocol: 1, Engine: "e",
				Commands: []guestapi.Command{guestapi.CmdMetrics, guestapi.CmdStatements, guestapi.CmdDrift, guestapi.CmdTailLog},
			}, nil
		}
		return *answer, nil
	})
}

func family(name string, series ...guestapi.MetricSeries) guestapi.MetricFamily {
	return guestapi.MetricFamily{Name: name, Series: series}
}

func TestMetricsOfAGuestAreCheckedAndBounded(t *testing.T) {
	var answer any
	c := answering(t, &answer)
	with := func(name, value string) guestapi.MetricSeries {
		return guestapi.MetricSeries{Labels: map[string]string{name: value}}
	}
	many := family("many", make([]guestapi.MetricSeries, 11)...)
	answer = guestapi.Metrics{Left: -5, Families: []guestapi.MetricFamily{
		family("good", with("l", "a\x1b[2Jb")), family("good", guestapi.MetricSeries{}), family("bad name"), family("x\ny"), family("1a", guestapi.MetricSeries{}),
		family("label", with("a b", "")), family("reserved", with("__name__", "")), family("long", with("l", strings.Repeat("x", 257))), many,
		family("more", make([]guestapi.MetricSeries, 9)...),
	}}
	got, err := c.Metrics(t.Context(), instance, guestapi.MetricsArgs{Series: 10})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range got.Families {
		names = append(names, f.Name)
	}
	if diff := cmp.Diff([]string{"good", "more"}, names); diff != "" || got.Left != 1+1+1+1+1+11 {
		t.Errorf("%d are left out, families -want +got\n%s", got.Left, diff)
	}
	if value := got.Families[0].Series[0].Labels["l"]; value != "a[2Jb" {
		t.Errorf("a terminal would act on %q", value)
	}
}

func TestWordsOfAGuestThatCannotBeAreRefused(t *testing.T) {
	var answer any
	c := answering(t, &answer)
	ctx := t.Context()
	for _, bad := range []any{
		[]guestapi.Statement{{Text: strings.Repeat("x", 1025)}}, []guestapi.Statement{{Calls: -1}}, []guestapi.Statement{{Microseconds: -1}}, make([]guestapi.Statement, 101),
	} {
		answer = bad
		if _, err := c.Statements(ctx, instance, guestapi.StatementsArgs{Limit: 100}); trove.KindOf(err) != trove.KindInternal {
			t.Errorf("%.60v: %v", bad, err)
		}
	}
	for _, bad := range []any{[]guestapi.Difference{{Name: "a b"}}, []guestapi.Difference{{Name: "a", Is: strings.Repeat("x", 4097)}}, make([]guestapi.Difference, 4097)} {
		answer = bad
		if _, err := c.Drift(ctx, instance); trove.KindOf(err) != trove.KindInternal {
			t.Errorf("%.60v: %v", bad, err)
		}
	}
	for _, bad := range []guestapi.LogTail{
		{To: -1}, {To: 1, Data: []byte("xx")}, {To: 1 << 30, Data: make([]byte, guestapi.MaxTail+1)}, {File: "a\nb"},
	} {
		answer = bad
		if _, err := c.TailLog(ctx, instance, guestapi.TailLogArgs{Name: "error"}); trove.KindOf(err) != trove.KindInternal {
			t.Errorf("%.60v: %v", bad, err)
		}
	}
	answer = guestapi.LogTail{File: "f", To: 2, Data: []byte("x\n")}
	if got, err := c.TailLog(ctx, instance, guestapi.TailLogArgs{Name: "error"}); err != nil || string(got.Data) != "x\n" {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestLargestAnswersFitTheBus: what an agent may say at most is below what the bus takes.
func TestLargestAnswersFitTheBus(t *testing.T) {
	tail := guestapi.LogTail{File: strings.Repeat("f", 64), To: 1 << 62, Data: make([]byte, guestapi.MaxTail), More: true, Restarted: true}
	statements := make([]guestapi.Statement, guestapi.MaxStatements)
	for n := range statements {
		statements[n] = guestapi.Statement{Text: strings.Repeat("x", 1024), Database: strings.Repeat("d", 256), Calls: 1 << 62, Microseconds: 1 << 62, Rows: 1 << 62}
	}
	for _, v := range []any{tail, statements} {
		data, err := json.Marshal(guestapi.Response{V: guestapi.Version, Result: encode(t, v)})
		if err != nil || len(data) > guestapi.MaxMessage {
			t.Errorf("%s has %d bytes, %v", fmt.Sprintf("%T", v), len(data), err)
		}
	}
}
