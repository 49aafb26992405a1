// Package recovery writes and reads exports: one encrypted file with everything without which a deployment could not go on, but for the data of the
// databases and what can be built again.
//
// An export is an age file for one or more recovery keys, of which this machine knows the public half alone. Inside is a tar archive: a manifest
// with the SHA-256 of each part, then the parts. docs/format-export.md describes it for other implementations. Functions may be called from several
// goroutines.
package recovery

import (
	"encoding/hex"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
)

const (
	// Format names the kind of file in its manifest.
	Format = "trove-export"
	// Version is the newest version of the format that is read, and the one that is written.
	Version = 1

	manifestName = "manifest.json"
	// maxManifest bounds what is read before anything is known to be right.
	maxManifest = 64 << 20
)

// The roots that the names of parts begin with.
const (
	RootState = "state" // the state directory
	RootCloud = "cloud" // the directory of the local cloud's files; the same one unless the configuration has another
)

// Manifest says what an export holds. It holds nothing secret itself, and is encrypted with the rest.
type Manifest struct {
	Format       string    `json:"format"`
	Version      int       `json:"version"`
	CreatedAt    time.Time `json:"created_at"`
	Deployment   string    `json:"deployment"` // 8 hexadecimal digits, from which all names on the machine follow
	State        string    `json:"state"`      // path of the state directory
	Cloud        string    `json:"cloud"`      // path of the local cloud's directory
	TroveVersion string    `json:"trove_version"`
	Instances    int       `json:"instances"`  // that lived
	Operations   int       `json:"operations"` // that were open
	Parts        []Part    `json:"parts"`
	Images       []Image   `json:"images"`   // not in the export: to be built again
	LeftOut      []string  `json:"left_out"` // names of files that are too large to be keys or records
}

// Part is a file in an export.
type Part struct {
	Name   string `json:"name"` // "state/keys/master.key"
	Size   int64  `json:"size"`
	Mode   uint32 `json:"mode"` // permission bits
	SHA256 string `json:"sha256"`
}

// Image is a datastore image that the deployment had.
type Image struct {
	ID            string `json:"id"`
	Datastore     string `json:"datastore"`
	Version       string `json:"version"`
	EngineVersion string `json:"engine_version"`
	Used          int    `json:"used"`  // instances that run from it
	Build         string `json:"build"` // the command that makes it again
}

// ID names one export: the deployment and the time.
func (m Manifest) ID() string {
	return m.Deployment + "-" + m.CreatedAt.UTC().Format("20060102T150405Z")
}

// check refuses what this version cannot restore, and names that would leave the directories.
func (m Manifest) check() error {
	if m.Format != Format {
		return damaged("its manifest is of the format %q", m.Format)
	}
	if m.Version != Version {
		return trove.Errorf(trove.KindBadRequest, "The export has version %d of the format; this program reads version %d. Use the program that is newer.",
			m.Version, Version)
	}
	seen := map[string]bool{}
	for _, p := range m.Parts {
		root, rest, _ := strings.Cut(p.Name, "/")
		switch sum, err := hex.DecodeString(p.SHA256); {
		case root != RootState && root != RootCloud, !filepath.IsLocal(rest), filepath.ToSlash(filepath.Clean(rest)) != rest, rest == ".":
			return damaged("the name %q is not allowed", p.Name)
		case seen[p.Name]:
			return damaged("%s is there twice", p.Name)
		case err != nil || len(sum) != 32 || p.Size < 0 || fs.FileMode(p.Mode) != fs.FileMode(p.Mode).Perm():
			return damaged("%s has no valid size, mode or hash", p.Name)
		}
		seen[p.Name] = true
	}
	return nil
}

// Path returns where the part belongs.
func (p Part) Path(state, cloud string) string {
	root, rest, _ := strings.Cut(p.Name, "/")
	if root == RootCloud {
		return filepath.Join(cloud, filepath.FromSlash(rest))
	}
	return filepath.Join(state, filepath.FromSlash(rest))
}

func damaged(format string, args ...any) error {
	return trove.Errorf(trove.KindBadRequest, "The file is damaged or is no export: %s. Nothing was changed; take another export.", fmt.Sprintf(format, args...))
}
