package swift

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/gophercloud/gophercloud/v2"
	"golang.org/x/sync/errgroup"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/backupstore"
)

// Remove implements backupstore.Store.
func (s *Store) Remove(ctx context.Context, c backupstore.Container, name string) error {
	if err := check(ctx, c, name, backupstore.PutOptions{}); err != nil {
		return err
	}
	p, err := s.place(ctx, c)
	if err != nil {
		return err
	}
	_, err = s.removeObject(ctx, p, name)
	return err
}

// removeObject reports whether there was something to remove.
func (s *Store) removeObject(ctx context.Context, p place, name string) (bool, error) {
	f, err := s.findPieces(ctx, p, name)
	if trove.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := s.remove(ctx, p, p.url(name)); err != nil {
		return false, fmt.Errorf("remove an object: %w", err)
	}
	s.dropPieces(ctx, p, f)
	return true, nil
}

// remove removes one object of Swift; of a large one only the manifest. Gone is fine.
func (s *Store) remove(ctx context.Context, p place, url string) error {
	_, err := s.done(p.client.Request(ctx, http.MethodDelete, url, &gophercloud.RequestOpts{OkCodes: []int{http.StatusNoContent}, KeepResponseBody: true}))
	if trove.IsNotFound(err) {
		return nil
	}
	return err
}

// removesAtOnce is how many objects RemoveAll removes at a time.
const removesAtOnce = 4

// RemoveAll implements backupstore.Store.
func (s *Store) RemoveAll(ctx context.Context, c backupstore.Container, prefix string) (int, error) {
	if prefix == "" {
		return 0, trove.Errorf(trove.KindBadRequest, "A prefix is needed to remove what begins with it.")
	}
	if err := errors.Join(ctx.Err(), c.Check()); err != nil {
		return 0, fmt.Errorf("remove objects: %w", err)
	}
	p, err := s.place(ctx, c)
	if err != nil {
		return 0, err
	}
	all, err := s.list(ctx, p, backupstore.ListOptions{Prefix: prefix})
	if err != nil {
		return 0, fmt.Errorf("remove objects: %w", err)
	}
	var removed atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(removesAtOnce)
	for _, o := range all {
		group.Go(func() error {
			there, err := s.removeObject(ctx, p, o.Name)
			if there {
				removed.Add(1)
			}
			return err
		})
	}
	err = group.Wait()
	return int(removed.Load()), err
}
