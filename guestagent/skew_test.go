package guestagent_test

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/trove-dbaas/trove/guestapi"
)

// TestControllersOfOtherReleases plays what controllers of the first release sent, byte for byte, to the agent; and the same as a later release may send
// it, with fields that are not known here.
func TestControllersOfOtherReleases(t *testing.T) {
	for name, change := range map[string]func(map[string]any){
		"the first": func(map[string]any) {},
		"a later one": func(r map[string]any) {
			r["trace"] = map[string]any{"span": 7}
			if args, ok := r["args"].(map[string]any); ok {
				args["foretold"] = []any{"rain", nil}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t)
			g.start()
			f, err := os.Open("../guestapi/testdata/first/requests.jsonl")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			for s := bufio.NewScanner(f); s.Scan(); {
				g.play(s.Bytes(), change)
			}
		})
	}
}

// play sends a recorded request and waits for the end of a long command.
func (g *guest) play(line []byte, change func(map[string]any)) {
	g.t.Helper()
	var r map[string]any
	if err := json.Unmarshal(line, &r); err != nil {
		g.t.Fatal(err)
	}
	change(r)
	data, err := json.Marshal(r)
	if err != nil {
		g.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answer, err := g.ctl.Request(ctx, guestapi.CommandSubject(g.id), data)
	if err != nil {
		g.t.Fatalf("%s: %v", line, err)
	}
	var resp guestapi.Response
	if err := json.Unmarshal(answer, &resp); err != nil || resp.V != 1 || resp.Error != nil {
		g.t.Fatalf("%s was answered with %s, %v", data, answer, err)
	}
	id, _ := r["id"].(string)
	if !strings.HasPrefix(id, "op/") {
		return
	}
	if end := g.await(id); end.State != guestapi.StateDone {
		g.t.Fatalf("%s ended with %+v %+v", data, end, end.Error)
	}
}
