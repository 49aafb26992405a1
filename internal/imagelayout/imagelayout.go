// Package imagelayout says how a datastore image lies on the disk: what package image writes and cloud/local reads, and the places inside a
// guest that image, machine and agent agree on. It does no input or output beyond reading and writing the manifest.
package imagelayout

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/atomicfile"
)

// Paths inside a guest.
const (
	DataDir  = "/data"       // the data volume
	StateDir = "/data/trove" // the agent's own directory on it, 0700
	AgentDir = "/agent"      // read-only, holds the agent's binary
	AgentBin = AgentDir + "/trove-guestagent"
	// AgentKeys has the public keys of those who sign releases of the agent, PEM; an image without it runs no other agent than its own.
	AgentKeys = AgentDir + "/release.pub"
	// ReleasesDir has other releases of the agent than the image's, and which of them runs.
	ReleasesDir = StateDir + "/agents"

	// PreviousDir is, while an instance gets another datastore version, the read-only root file system of the image that it had before.
	PreviousDir = "/run/previous"

	// ManagementNetns is, in a virtual machine whose management network is isolated, the network namespace that its interface is in.
	ManagementNetns = "/run/netns/management"

	// GoldenSizes is, in the initialised database of a whole-disk image, the file that says how large files are whose end of zeros was cut off: JSON, from
	// their paths to bytes.
	GoldenSizes = ".trove-sizes"

	BootDir  = "/config" // read-only, holds the boot data: the counterpart of a config drive
	BootFile = BootDir + "/boot.json"
	RunDir   = "/run/trove" // tmpfs; sockets, pid files
)

// Manifest describes one image. It is written last: a directory without one is half-made.
type Manifest struct {
	ID            string             `json:"id"` // UUID, derived from the content
	Datastore     string             `json:"datastore"`
	Version       string             `json:"version"` // the name of the datastore version
	Manager       string             `json:"manager"` // the engine driver
	EngineVersion string             `json:"engine_version"`
	Capabilities  trove.Capabilities `json:"capabilities"`
	EngineUID     int                `json:"engine_uid"` // inside the guest
	EngineGID     int                `json:"engine_gid"`
	RootSHA256    string             `json:"root_sha256"` // of the recipe and the lock file: what the root file system was made from
	AgentSHA256   string             `json:"agent_sha256"`
	AgentKeys     string             `json:"agent_keys,omitempty"` // SHA-256 of the file with the keys of those who sign releases of the agent; "": none
	Goldens       []Golden           `json:"goldens"`              // ascending by size
}

// Golden is a data volume that holds an initialised data directory and no identity; a new volume is a copy of it.
type Golden struct {
	File    string `json:"file"` // in the image's directory
	SizeMiB int    `json:"size_mib"`
}

const manifestFile = "manifest.json"

// Dir returns the directory of an image below the directory of all images.
func Dir(images, id string) string { return filepath.Join(images, id) }

// RootFS returns the root file system's directory of an image.
func RootFS(images, id string) string { return filepath.Join(images, id, "rootfs") }

// AgentPath returns the directory on the host that holds the image's agent binary.
func AgentPath(images, id string) string { return filepath.Join(images, id, "agent") }

// Read reads the manifest of an image. An image that is not there, or not whole, is a NotFound error.
func Read(images, id string) (Manifest, error) {
	if !trove.ValidID(id) {
		return Manifest{}, trove.Errorf(trove.KindNotFound, "Image %s cannot be found.", id)
	}
	data, err := os.ReadFile(filepath.Join(images, id, manifestFile))
	if os.IsNotExist(err) {
		return Manifest{}, trove.Wrap(trove.KindNotFound, err, "Image %s cannot be found.", id)
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("read the manifest of image %s: %w", id, err)
	}
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return Manifest{}, fmt.Errorf("read the manifest of image %s: %w", id, err)
	}
	return m, nil
}

// Write writes the manifest into the image's directory: the last act of a build.
func Write(images string, m Manifest) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("write the manifest of image %s: %w", m.ID, err)
	}
	return atomicfile.Write(filepath.Join(images, m.ID, manifestFile), append(data, '\n'), 0o644)
}

// List returns the manifests of all whole images, the one written (or touched) last at the end. A directory that is missing is an empty list.
func List(images string) ([]Manifest, error) {
	entries, err := os.ReadDir(images)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var all []Manifest
	written := map[string]time.Time{}
	for _, e := range entries {
		m, err := Read(images, e.Name())
		if trove.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if info, err := os.Stat(filepath.Join(images, m.ID, manifestFile)); err == nil {
			written[m.ID] = info.ModTime()
		}
		all = append(all, m)
	}
	slices.SortStableFunc(all, func(a, b Manifest) int { return written[a.ID].Compare(written[b.ID]) })
	return all, nil
}

// Touch makes an image the newest one: a build that finds its result in place says so with it.
func Touch(images, id string, now time.Time) error {
	if err := os.Chtimes(filepath.Join(images, id, manifestFile), now, now); err != nil {
		return fmt.Errorf("touch image %s: %w", id, err)
	}
	return nil
}
