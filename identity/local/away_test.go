package local_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/identity"
	"github.com/trove-dbaas/trove/identity/local"
	"github.com/trove-dbaas/trove/internal/clock"
)

// awayRepository is one whose database says no to everything that is asked here.
type awayRepository struct {
	local.Repository
	err error
}

func (r awayRepository) IdentityToken(context.Context, string) (local.Token, error) {
	return local.Token{}, r.err
}

// TestADatabaseThatIsAwayIsNotCalledAnIdentityService: what the store says of itself reaches the user.
func TestADatabaseThatIsAwayIsNotCalledAnIdentityService(t *testing.T) {
	const sentence = "The service's database cannot be reached now."
	for want, err := range map[string]error{
		sentence: trove.Errorf(trove.KindUnavailable, sentence),
		"The identity service cannot be reached; try again.": errors.New("no such table"),
	} {
		s := local.New(local.Config{Repository: awayRepository{err: err}, Clock: clock.System{}, Log: slog.New(slog.DiscardHandler)})
		_, got := s.Authenticate(t.Context(), identity.Tokens{User: "some token"})
		if trove.KindOf(got) != trove.KindUnavailable || trove.MessageOf(got) != want {
			t.Errorf("got %v, want %q", got, want)
		}
	}
}
