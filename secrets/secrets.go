// Package secrets is the port to what encrypts the secrets that the store keeps.
//
// A sealed text is bound to its purpose: it opens only with the same purpose again, so a value cannot be moved from one row to another. Both
// methods may be called from several goroutines and repeated.
package secrets

import (
	"context"

	trove "github.com/trove-dbaas/trove"
)

// Sealer encrypts and decrypts under the deployment's master key, which lives outside the database.
type Sealer interface {
	// Seal returns a text that can be stored. Sealing twice gives two texts.
	Seal(ctx context.Context, purpose string, plain trove.Secret) (string, error)
	// Open is a permanent error if the text was not sealed for this purpose under a key that is still known.
	Open(ctx context.Context, purpose, sealed string) (trove.Secret, error)
}
