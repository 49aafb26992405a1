package local_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
)

// TestLostVolumeIsNotMadeAnew loses the file of a volume that was whole, while its machine runs and after it ended: nothing makes an empty one in its
// place, and what is left can be removed.
func TestLostVolumeIsNotMadeAnew(t *testing.T) {
	d := deploy(t)
	ctx := t.Context()
	id := trove.NewID()
	d.create(t, id, 1)
	image := filepath.Join(d.config.State, "instances", id, "volume.img")
	if err := os.Remove(image); err != nil {
		t.Fatal(err)
	}
	for _, running := range []bool{true, false} {
		if _, err := d.FindVolume(ctx, id); !trove.IsNotFound(err) {
			t.Errorf("running %t: the volume is found: %v", running, err)
		}
		for _, size := range []int{1, 2} {
			if _, err := d.EnsureVolume(ctx, cloud.VolumeSpec{Instance: id, SizeGiB: size, ImageID: imageID}); !trove.IsPermanent(err) {
				t.Errorf("running %t: %d GiB: %v", running, size, err)
			}
		}
		if _, err := os.Lstat(image); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("running %t: there is a volume again: %v", running, err)
		}
		if running {
			if err := d.StopMachine(ctx, id); err != nil {
				t.Fatal(err)
			}
		}
	}
	d.remove(t, id)
	if _, err := os.Stat(filepath.Dir(image)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the instance's directory is left: %v", err)
	}
}
