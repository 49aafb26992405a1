package bootstrap

import (
	"encoding/json"
	"errors"
	"os"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/imagelayout"
)

// sidecar is what stands beside an image.
type sidecar struct {
	imagelayout.Manifest

	Format     string            `json:"format"`
	MinDisk    int               `json:"min_disk"`
	MinRAM     int               `json:"min_ram"`
	Size       int64             `json:"size"`
	SHA256     string            `json:"sha256"`
	Properties map[string]string `json:"properties"`
}

// ReadImageFile reads what `trove image build --format qcow2` wrote beside an image.
func ReadImageFile(path string) (ImageFile, error) {
	beside := path + ".json"
	data, err := os.ReadFile(beside)
	if errors.Is(err, os.ErrNotExist) {
		return ImageFile{}, trove.Wrap(trove.KindBadRequest, err, "There is no %s: an image is given with what was written beside it by trove image build --format qcow2.", beside)
	}
	var s sidecar
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		return ImageFile{}, trove.Wrap(trove.KindBadRequest, err, "%s cannot be read.", beside)
	}
	if s.ID == "" || s.Datastore == "" || s.Version == "" || s.Manager == "" || s.Format == "" || s.SHA256 == "" {
		return ImageFile{}, trove.Errorf(trove.KindBadRequest, "%s does not say what the image is.", beside)
	}
	return ImageFile{
		Path: path, Manifest: s.Manifest, Format: s.Format, MinDisk: s.MinDisk, MinRAM: s.MinRAM, Size: s.Size, SHA256: s.SHA256, Properties: s.Properties,
	}, nil
}
