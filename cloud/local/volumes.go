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
	case rec.Made && !exists(p.paths.image(s.Instance)):
		// An empty volume in its place would look like a database that has lost its data, or hide a pool that is only not mounted.
		err = trove.Permanent(trove.Errorf(trove.KindInternal, "The data volume of the instance is gone."))
	case s.SizeGiB < rec.SizeGiB:
		err = bad("The volume has %d GiB and cannot shrink to %d GiB.", rec.SizeGiB, s.SizeGiB)
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
	if err := p.noteMade(s.Instance); err != nil {
		return cloud.Volume{}, err
	}
	return p.findVolume(s.Instance)
}

// noteMade notes that the volume is whole.
func (p *Provider) noteMade(id string) error {
	rec, err := readRecord[volumeRecord](p.paths.volumeRecord(id))
	if err == nil && !rec.Made {
		rec.Made = true
		err = writeRecord(p.paths.volumeRecord(id), rec)
	}
	if err != nil {
		return fmt.Errorf("note that the volume of instance %s was made: %w", id, err)
	}
	return nil
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
	if exists(p.paths.image(id)) {
		return p.extendVolume(ctx, id, rec)
	}
	size := int64(rec.SizeGiB) * gib
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
	if errors.Is(err, volume.ErrNoSpace) {
		err = p.noSpace(id, size, 0)
	}
	if err != nil && fresh {
		// Nothing was made, so nothing may be counted.
		_ = os.Remove(p.paths.volumeRecord(id))
	}
	return err
}

// extendVolume grows a volume to the size of the record, or finishes a growth that was cut off after it was booked. When the space cannot be had
// the record is set back to what the file has, whoever booked more: the volume goes on with that, and nothing else is counted.
func (p *Provider) extendVolume(ctx context.Context, id string, rec volumeRecord) error {
	info, err := os.Stat(p.paths.image(id))
	if err != nil {
		return err
	}
	size := int64(rec.SizeGiB) * gib
	err = p.book(ctx, id, rec)
	if err == nil {
		err = volume.Extend(p.paths.image(id), p.paths.in(id, "data"), size, p.reserve())
	}
	if errors.Is(err, volume.ErrNoSpace) && info.Size() >= size {
		// A volume that was made with overcommit, or has got holes: it works on, and what it lacks stays counted.
		p.warnOnce(ctx, "space for a volume could not be reserved afterwards", "instance", id, "err", err)
		return nil
	}
	if errors.Is(err, volume.ErrNoSpace) {
		before := rec
		before.SizeGiB = int(info.Size() / gib)
		err = p.noSpace(id, size, info.Size())
		if setBack := writeRecord(p.paths.volumeRecord(id), before); setBack != nil {
			return setBack
		}
	}
	return err
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
	attach := volume.AttachSparse
	if p.reserve() {
		attach = volume.Attach
	}
	a, err := attach(p.paths.image(id), target, ns)
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
	if rec.Made && errors.Is(err, os.ErrNotExist) {
		return cloud.Volume{}, trove.Errorf(trove.KindNotFound, "The volume of instance %s is gone.", id)
	}
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
