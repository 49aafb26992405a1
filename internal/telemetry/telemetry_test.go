package telemetry_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/telemetry"
)

// TestEveryLineCarriesTheRequestID checks it also behind With and WithGroup, which make new handlers.
func TestEveryLineCarriesTheRequestID(t *testing.T) {
	var out strings.Builder
	log := telemetry.NewLogger(&out, "json", slog.LevelInfo)
	id := telemetry.NewRequestID()
	ctx := telemetry.WithRequestID(t.Context(), id)
	log.InfoContext(ctx, "a")
	log.With("instance", "i").InfoContext(ctx, "b")
	log.DebugContext(ctx, "below the level")
	log.InfoContext(context.Background(), "without one")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines:\n%s", len(lines), out.String())
	}
	for i, want := range []string{id, id, ""} {
		var line struct{ Req string }
		if err := json.Unmarshal([]byte(lines[i]), &line); err != nil || line.Req != want {
			t.Errorf("line %s, %v: want request id %q", lines[i], err, want)
		}
	}
}

func TestRequestIDsHaveOpenStacksForm(t *testing.T) {
	id := telemetry.NewRequestID()
	if rest, ok := strings.CutPrefix(id, "req-"); !ok || !trove.ValidID(rest) || id == telemetry.NewRequestID() {
		t.Errorf("request id %q", id)
	}
	if got := telemetry.RequestID(t.Context()); got != "" {
		t.Errorf("a context without one has %q", got)
	}
}
