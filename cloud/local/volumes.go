package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/local/volume"
	"github.com/trove-dbaas/trove/internal/imagelayout"
)

// EnsureVolume is cloud.Volumes.EnsureVolume. It returns when the volume is there and mounted.
func (p *Provider) EnsureVolume(ctx context.Context, s cloud.VolumeSpec) (cloud.Volume, error) {
	if err := checkVolumeSpec(s); err != nil {
		return cloud.Volume{}, err
	}
	unlock, err := p.paths.lock(ctx, s.Instance)
	if err != nil {
		return cloud.Volume{}, err
	}
	defer unlock(false)
	rec, err := readRecord[volumeRecord](p.paths.volumeRecord(s.Instance))
	switch {
	case errors.Is(err, os.ErrNotExist):
		rec = volumeRecord{SizeGiB: s.SizeGiB, Type: volumeType, ImageID: s.ImageID, Project: s.Project}
		err = p.makeVolume(ctx, s.Instance, rec, true)
	case err != nil:
	case s.SizeGiB < rec.SizeGiB:
		err = bad("The volume has %d GiB and cannot shrink to %d GiB.", rec.SizeGiB, s.SizeGiB)
	case s.SizeGiB > rec.SizeGiB && exists(p.paths.image(s.Instance)):
		err = p.extendVolume(ctx, s.Instance, rec, s.SizeGiB)
	default:
		rec.SizeGiB = s.SizeGiB
		err = p.makeVolume(ctx, s.Instance, rec, false)
	}
	if err != nil {
		return cloud.Volume{}, fmt.Errorf("volume of instance %s: %w", s.Instance, err)
	}
	if err := p.attachVolume(ctx, s.Instance); err != nil {
		return cloud.Volume{}, err
	}
	return p.findVolume(s.Instance)
}

func checkVolumeSpec(s cloud.VolumeSpec) error {
	switch {
	case s.SizeGiB <= 0:
		return bad("A volume of %d GiB cannot be made.", s.SizeGiB)
	case s.Type != "" && s.Type != volumeType:
		return bad("Volume type %s cannot be found.", s.Type)
	}
	return checkID(s.Instance)
}

// makeVolume makes the image file, after its size has been counted against the pool, or finishes one that is there.
func (p *Provider) makeVolume(ctx context.Context, id string, rec volumeRecord, fresh bool) error {
	size := int64(rec.SizeGiB) * gib
	if exists(p.paths.image(id)) {
		if err := p.book(ctx, id, rec); err != nil {
			return err
		}
		// A growth may have been cut off after it was booked.
		return p.spaceError(volume.Extend(p.paths.image(id), p.paths.in(id, "data"), size, p.reserve()), size)
	}
	golden, key, err := p.golden(rec.ImageID, size)
	if err != nil {
		return err
	}
	if err := p.book(ctx, id, rec); err != nil {
		return err
	}
	spare := ""
	if golden != "" {
		spare = p.shelf.Take(key, golden)
	}
	err = volume.Make(ctx, volume.Spec{Image: p.paths.image(id), Size: size, Golden: golden, Spare: spare, Reserve: p.reserve()})
	if err != nil && fresh {
		// Nothing was made, so nothing may be counted.
		_ = os.Remove(p.paths.volumeRecord(id))
	}
	return p.spaceError(err, size)
}

func (p *Provider) extendVolume(ctx context.Context, id string, rec volumeRecord, sizeGiB int) error {
	before := rec
	rec.SizeGiB = sizeGiB
	if err := p.book(ctx, id, rec); err != nil {
		return err
	}
	err := volume.Extend(p.paths.image(id), p.paths.in(id, "data"), int64(sizeGiB)*gib, p.reserve())
	if errors.Is(err, volume.ErrNoSpace) {
		if err := writeRecord(p.paths.volumeRecord(id), before); err != nil {
			return err
		}
	}
	return p.spaceError(err, int64(sizeGiB-before.SizeGiB)*gib)
}

// golden chooses the largest golden volume of the image that fits into size, "" if there is none. Large ones grow better: the number of
// xfs's allocation groups is fixed when the file system is made. Key names it on the shelf.
func (p *Provider) golden(imageID string, size int64) (path, key string, err error) {
	if imageID == "" {
		return "", "", nil
	}
	m, err := imagelayout.Read(p.config.Images, imageID)
	if trove.IsNotFound(err) {
		return "", "", trove.Permanent(trove.Wrap(trove.KindBadRequest, err, "Image %s cannot be found.", imageID))
	}
	if err != nil {
		return "", "", err
	}
	best := imagelayout.Golden{}
	for _, g := range m.Goldens {
		if g.SizeMiB > best.SizeMiB && int64(g.SizeMiB)<<20 <= size {
			best = g
		}
	}
	if best.File == "" {
		return "", "", nil
	}
	file := filepath.Base(best.File)
	return filepath.Join(imagelayout.Dir(p.config.Images, imageID), best.File), imageID + "-" + file, nil
}

// book writes the volume's record if the pool has room for it beside all others.
func (p *Provider) book(ctx context.Context, id string, rec volumeRecord) error {
	unlock, err := p.paths.lock(ctx, "pool")
	if err != nil {
		return err
	}
	defer unlock(false)
	ids, err := p.paths.instances()
	if err != nil {
		return err
	}
	used, own := int64(0), int64(0)
	for _, other := range ids {
		r, err := readRecord[volumeRecord](p.paths.volumeRecord(other))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if other == id {
			own = int64(r.SizeGiB) * gib
			if r == rec {
				return nil
			}
			continue
		}
		used += int64(r.SizeGiB) * gib
	}
	size := int64(rec.SizeGiB) * gib
	if limit := int64(float64(p.pool) * p.overcommit()); used+size > limit {
		return overLimit(size-own, max(0, limit-used-own), limit)
	}
	if err := p.checkFree(size - own); err != nil {
		return err
	}
	return writeRecord(p.paths.volumeRecord(id), rec)
}

// checkFree looks at the file system itself, which others use too.
func (p *Provider) checkFree(need int64) error {
	free, total, err := freeSpace(p.paths.files)
	if err != nil {
		return err
	}
	if !p.reserve() {
		// With overcommit the stop mark is a tenth of the file system: what the volumes there are still may write.
		if free < total/10 {
			return trove.Permanent(trove.Errorf(trove.KindOverLimit,
				"The local cloud's file system has only %s of %s free; no volume is made or enlarged below a tenth.", inGiB(free), inGiB(total)))
		}
		return nil
	}
	if need > free-Headroom {
		return overLimit(need, max(0, free-Headroom), p.pool)
	}
	return nil
}

// spaceError turns ErrNoSpace, which others on the file system can still cause after checkFree, into a sentence.
func (p *Provider) spaceError(err error, need int64) error {
	if !errors.Is(err, volume.ErrNoSpace) {
		return err
	}
	free, _, freeErr := freeSpace(p.paths.files)
	if freeErr != nil {
		return freeErr
	}
	return overLimit(need, max(0, free-Headroom), p.pool)
}

func overLimit(need, free, total int64) error {
	return trove.Permanent(trove.Errorf(trove.KindOverLimit,
		"The local cloud has %s of %s free for volumes; %s more would be needed.", inGiB(free), inGiB(total), inGiB(need)))
}

func inGiB(n int64) string { return fmt.Sprintf("%d GiB", n/gib) }

// attachVolume mounts the volume where the sandbox will find it.
func (p *Provider) attachVolume(ctx context.Context, id string) error {
	ns, err := p.enterRun(ctx, id)
	if err != nil {
		return err
	}
	target := p.paths.in(id, "data")
	if err := os.MkdirAll(target, 0o711); err != nil { //nolint:gosec // the sandbox's root must pass
		return fmt.Errorf("attach the volume of instance %s: %w", id, err)
	}
	a, err := volume.Attach(p.paths.image(id), target, ns)
	if err != nil {
		return fmt.Errorf("instance %s: %w", id, err)
	}
	if !a.Direct {
		p.warnOnce(ctx, "volumes do without direct i/o: the file system under them refused it")
	}
	// So that Destroy can give back loop devices that were made for us.
	if err := os.MkdirAll(p.paths.loops(), 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.paths.loops(), strconv.Itoa(a.Loop)), nil, 0o600)
}

// FindVolume is cloud.Volumes.FindVolume.
func (p *Provider) FindVolume(_ context.Context, instance string) (cloud.Volume, error) {
	return p.findVolume(instance)
}

func (p *Provider) findVolume(id string) (cloud.Volume, error) {
	if err := checkID(id); err != nil {
		return cloud.Volume{}, err
	}
	rec, err := readRecord[volumeRecord](p.paths.volumeRecord(id))
	if errors.Is(err, os.ErrNotExist) {
		return cloud.Volume{}, trove.Errorf(trove.KindNotFound, "Instance %s has no volume.", id)
	}
	if err != nil {
		return cloud.Volume{}, fmt.Errorf("find the volume of instance %s: %w", id, err)
	}
	info, err := os.Stat(p.paths.image(id))
	ready := err == nil && info.Size() >= int64(rec.SizeGiB)*gib
	return cloud.Volume{ID: id, Instance: id, SizeGiB: rec.SizeGiB, Ready: ready}, nil
}

// RemoveVolume is cloud.Volumes.RemoveVolume. While the instance has a machine it is a Conflict.
func (p *Provider) RemoveVolume(ctx context.Context, instance string) error {
	return p.removing(ctx, instance, func() error {
		if exists(p.paths.machineRecord(instance)) && exists(p.paths.volumeRecord(instance)) {
			return trove.Errorf(trove.KindConflict, "The volume of instance %s is in use by its machine.", instance)
		}
		return p.dropVolume(ctx, instance)
	})
}

// dropVolume removes the volume; the record goes last, so that a half-removed volume is still found.
func (p *Provider) dropVolume(ctx context.Context, id string) error {
	if err := volume.Detach(ctx, p.paths.in(id, "data")); err != nil {
		return fmt.Errorf("remove the volume of instance %s: %w", id, err)
	}
	if err := volume.Remove(p.paths.image(id)); err != nil {
		return err
	}
	if err := os.Remove(p.paths.volumeRecord(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the volume of instance %s: %w", id, err)
	}
	return nil
}

// Volumes is cloud.Volumes.Volumes, sorted by instance.
func (p *Provider) Volumes(context.Context) ([]cloud.Volume, error) {
	ids, err := p.paths.instances()
	if err != nil {
		return nil, err
	}
	var all []cloud.Volume
	for _, id := range ids {
		v, err := p.findVolume(id)
		if trove.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}
