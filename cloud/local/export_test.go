package local

import (
	"context"
	"errors"
	"os"
)

// For the tests of this package alone.
var (
	Hostname          = hostname
	ClaimIDs          = claimIDs
	ReleaseIDs        = releaseIDs
	AssignedElsewhere = assignedElsewhere
)

// FirstID is the first id of the ranges.
const FirstID = firstID

// Overlaps reports whether the n-th range has ids of the span.
func (s span) Overlaps(n int) bool { return s.overlaps(n) }

// MakeVolume, GrowVolume and DropVolume are EnsureVolume and RemoveVolume without the mount, which takes most of their time.
func (p *Provider) MakeVolume(ctx context.Context, id string, sizeGiB int) error {
	unlock, err := p.paths.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock(false)
	_, err = readRecord[volumeRecord](p.paths.volumeRecord(id))
	return p.makeVolume(ctx, id, volumeRecord{SizeGiB: sizeGiB, Type: volumeType}, errors.Is(err, os.ErrNotExist))
}

// DropVolume see MakeVolume.
func (p *Provider) DropVolume(ctx context.Context, id string) error {
	return p.removing(ctx, id, func() error { return p.dropVolume(ctx, id) })
}

// Book only books, as a MakeVolume or a growth that was killed right afterwards.
func (p *Provider) Book(ctx context.Context, id string, sizeGiB int) error {
	return p.book(ctx, id, volumeRecord{SizeGiB: sizeGiB, Type: volumeType})
}
