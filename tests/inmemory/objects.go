package inmemory

import (
	"context"
	"io"
	"strconv"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/backupstore/mem"
	"github.com/trove-dbaas/trove/gateway"
	"github.com/trove-dbaas/trove/gateway/grant"
	"github.com/trove-dbaas/trove/guestapi"
)

// objects is the guest's side of an object gateway without the gateway between: the tokens of grants are real, the connection and its signature are not there.
type objects struct {
	keys  *grant.Keyring
	store *mem.Store
}

func (o objects) verify(token, method, name string) (grant.Grant, error) {
	g, err := o.keys.Verify(token)
	if err == nil && (g.Method != method || !g.Covers(name)) {
		err = trove.Errorf(trove.KindForbidden, "The grant is not for %s of %s.", method, name)
	}
	return g, err
}

// PutLines is guestagent.Objects.PutLines.
func (o objects) PutLines(ctx context.Context, given guestapi.Grant, name string, body io.Reader, lines int64) (guestapi.StoredObject, error) {
	g, err := o.verify(given.Token, "PUT", name)
	if err != nil {
		return guestapi.StoredObject{}, err
	}
	stored, err := o.store.Put(ctx, g.Container, name, body, backupstore.PutOptions{
		Size: -1, IfAbsent: true, Meta: map[string]string{gateway.MetaLines: strconv.FormatInt(lines, 10)},
	})
	return guestapi.StoredObject{Name: name, Size: stored.Size, SHA256: stored.SHA256}, err
}

// Get is guestagent.Objects.Get.
func (o objects) Get(ctx context.Context, given guestapi.Grant, name string) (io.ReadCloser, error) {
	g, err := o.verify(given.Token, "GET", name)
	if err != nil {
		return nil, err
	}
	body, _, err := o.store.Get(ctx, g.Container, name, backupstore.Range{})
	return body, err
}
