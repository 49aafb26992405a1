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

// Vault is where tenants keep secrets that they name in requests.
type Vault interface {
	// Read returns what a reference names: of a secret its payload, under the name "", of a container of certificates the payloads of its parts by their names. It is
	// read with the token of the caller in his project, and with no right of the service: what he may not see is Forbidden or NotFound. A reference
	// that is none is BadRequest.
	Read(ctx context.Context, token trove.Secret, project, ref string) (map[string]trove.Secret, error)
}
