package bootstrap

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"

	"github.com/gophercloud/gophercloud/v2"

	trove "github.com/trove-dbaas/trove"
)

// MakeFlavor makes a flavor.
type MakeFlavor struct{ Flavor Flavor }

func (a MakeFlavor) apply(ctx context.Context, b *Bootstrap, ids *ids) error {
	c, err := open(b.Services.Compute)
	if err != nil {
		return err
	}
	var made struct {
		Flavor Flavor `json:"flavor"`
	}
	err = c.post(ctx, map[string]any{"flavor": a.Flavor}, &made, "flavors")
	ids.flavors[a.Flavor.Name] = made.Flavor.ID
	return err
}

// AllowFlavor lets the project use a private flavor.
type AllowFlavor struct{ Name string }

func (a AllowFlavor) apply(ctx context.Context, b *Bootstrap, ids *ids) error {
	flavor := ids.flavors[a.Name]
	if err := need(flavor, PartFlavor); err != nil {
		return err
	}
	if err := need(ids.project, PartProject); err != nil {
		return err
	}
	c, err := open(b.Services.Compute)
	if err != nil {
		return err
	}
	err = c.post(ctx, map[string]any{"addTenantAccess": map[string]any{"tenant": ids.project}}, nil, "flavors", flavor, "action")
	if trove.KindOf(err) == trove.KindConflict {
		return nil // it may
	}
	return err
}

// SetQuota sets limits of the project in one service.
type SetQuota struct {
	Service string
	Limits  map[string]int
}

func (a SetQuota) apply(ctx context.Context, b *Bootstrap, ids *ids) error {
	if err := need(ids.project, PartProject); err != nil {
		return err
	}
	for _, place := range b.quotaPlaces() {
		if place.name != a.Service {
			continue
		}
		c, err := open(place.client)
		if err != nil {
			return err
		}
		return c.put(ctx, map[string]any{place.body: a.Limits}, append(place.path, ids.project)...)
	}
	return fmt.Errorf("there is no service %s", a.Service)
}

// UploadImage uploads an image, into one that is there and empty if ID says so.
type UploadImage struct {
	File ImageFile
	ID   string
}

func (a UploadImage) apply(ctx context.Context, b *Bootstrap, ids *ids) error {
	if err := need(ids.project, PartProject); err != nil {
		return err
	}
	if err := a.File.verify(); err != nil {
		return err
	}
	c, err := open(b.Services.Image)
	if err != nil {
		return err
	}
	id := a.ID
	if id == "" {
		body := map[string]any{}
		for k, v := range a.File.Properties {
			body[k] = v
		}
		m := a.File.Manifest
		maps.Copy(body, map[string]any{
			"name": a.File.Name(), "disk_format": a.File.Format, "container_format": "bare", "visibility": "private", "owner": ids.project,
			"min_disk": a.File.MinDisk, "min_ram": a.File.MinRAM,
			"trove_image": m.ID, "trove_datastore": m.Datastore, "trove_version": m.Version, "trove_manager": m.Manager,
		})
		var made Image
		if err := c.post(ctx, body, &made, "images"); err != nil {
			return err
		}
		id = made.ID
	}
	f, err := os.Open(a.File.Path)
	if err != nil {
		return fmt.Errorf("open the image: %w", err)
	}
	defer f.Close()
	_, err = c.client.Put(ctx, c.url(nil, "images", id, "file"), nil, nil, &gophercloud.RequestOpts{ //nolint:bodyclose // it is read and closed
		RawBody: f, OkCodes: []int{http.StatusNoContent}, MoreHeaders: map[string]string{"Content-Type": "application/octet-stream"},
	})
	ids.images[a.File.Manifest.ID] = id
	return err
}

// verify looks whether the file is the one that was built: an image that was cut off would be found out by the first instance only.
func (i ImageFile) verify() error {
	f, err := os.Open(i.Path)
	if err != nil {
		return fmt.Errorf("open the image: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, bufio.NewReaderSize(f, 1<<20)); err != nil {
		return fmt.Errorf("read the image: %w", err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != i.SHA256 {
		return trove.Errorf(trove.KindBadRequest, "%s is not what was built: its SHA-256 is %s, and %s stands beside it.", i.Path, got, i.SHA256)
	}
	return nil
}

// HideImage hides an image from lists. Whoever knows its id goes on using it.
type HideImage struct{ ID string }

func (a HideImage) apply(ctx context.Context, b *Bootstrap, _ *ids) error {
	c, err := open(b.Services.Image)
	if err != nil {
		return err
	}
	_, err = c.client.Patch(ctx, c.url(nil, "images", a.ID), []map[string]any{{"op": "replace", "path": "/os_hidden", "value": true}}, nil, //nolint:bodyclose // it is read and closed
		&gophercloud.RequestOpts{OkCodes: []int{http.StatusOK}, MoreHeaders: map[string]string{"Content-Type": "application/openstack-images-v2.1-json-patch"}})
	return err
}

// RegisterVersion makes a datastore version have an image: the given one, or the one that was uploaded before.
type RegisterVersion struct {
	File  ImageFile
	Image string
}

func (a RegisterVersion) apply(ctx context.Context, b *Bootstrap, ids *ids) error {
	image := a.Image
	if image == "" {
		image = ids.images[a.File.Manifest.ID]
	}
	if err := need(image, PartImage); err != nil {
		return err
	}
	return b.Registry.RegisterVersion(ctx, a.File.Manifest, image)
}
