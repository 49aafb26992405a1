package trove_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
)

func TestErrorKindAndMessageSurviveWrapping(t *testing.T) {
	cause := errors.New("dial tcp: refused")
	err := fmt.Errorf("create the volume: %w", trove.Wrap(trove.KindOverLimit, cause, "The pool is full."))
	if trove.KindOf(err) != trove.KindOverLimit || trove.MessageOf(err) != "The pool is full." || !errors.Is(err, cause) {
		t.Errorf("kind %v, message %q", trove.KindOf(err), trove.MessageOf(err))
	}
	if !strings.Contains(err.Error(), "refused") {
		t.Errorf("the log would miss the cause: %v", err)
	}
}

func TestAnUnknownErrorTellsUsersNothing(t *testing.T) {
	err := errors.New("pq: password authentication failed for trove@10.0.0.1")
	if m := trove.MessageOf(err); strings.Contains(m, "10.0.0.1") || trove.KindOf(err) != trove.KindInternal {
		t.Errorf("message %q, kind %v", m, trove.KindOf(err))
	}
}

func TestPermanent(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{errors.New("connection reset"), false},
		{trove.Permanent(errors.New("no such image")), true},
		{fmt.Errorf("boot: %w", trove.Permanent(errors.New("no such image"))), true},
		{trove.Errorf(trove.KindUnavailable, "Try again."), false},
		{trove.Errorf(trove.KindOverLimit, "Full."), true},
		{trove.Permanent(trove.Errorf(trove.KindUnavailable, "Never.")), true},
		{trove.Permanent(nil), false},
	} {
		if got := trove.IsPermanent(c.err); got != c.want {
			t.Errorf("IsPermanent(%v) = %v", c.err, got)
		}
	}
	if trove.Permanent(nil) != nil {
		t.Error("Permanent(nil) is an error")
	}
}

// TestSecretCannotBePrinted tries every usual way out.
func TestSecretCannotBePrinted(t *testing.T) {
	const text = "hunter2"
	s := trove.Secret(text)
	body, err := json.Marshal(struct {
		P trove.Secret
		L []trove.Secret
		M map[string]trove.Secret
	}{s, []trove.Secret{s}, map[string]trove.Secret{"a": s}})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "password", s, "any", struct{ P trove.Secret }{s})
	for _, out := range []string{
		fmt.Sprint(s), fmt.Sprintf("%s %v %q %#v", s, s, s, s), fmt.Sprintf("%+v", struct{ P trove.Secret }{s}), string(body), log.String(),
	} {
		if strings.Contains(out, text) {
			t.Errorf("printed: %s", out)
		}
	}
	var in struct{ P trove.Secret }
	if err := json.Unmarshal([]byte(`{"P":"hunter2"}`), &in); err != nil || in.P.Reveal() != text {
		t.Errorf("read %v, %v", in.P.Reveal() == text, err)
	}
}

func TestIDs(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := trove.NewID()
		if !trove.ValidID(id) || id[14] != '4' || seen[id] {
			t.Fatalf("id %q", id)
		}
		seen[id] = true
	}
	for _, bad := range []string{
		"", "*", ">", "../../etc/passwd", "11111111-1111-4111-8111-11111111111", "11111111-1111-4111-8111-1111111111111",
		"11111111-1111-4111-8111-11111111111G", "1111111-11111-4111-8111-111111111111", "AAAAAAAA-1111-4111-8111-111111111111",
	} {
		if trove.ValidID(bad) {
			t.Errorf("%q is taken for an id", bad)
		}
	}
}
