package recovery

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// maxFile is larger than any key or record. What is larger can be built or copied again, and is only named.
const maxFile = 1 << 20

// Skip are the directories and files of a state directory that are not exported: what can be made again, what belongs to one run of the service, the data
// of tenants, images (a manifest alone would pass for an image), and the store, of which a snapshot is taken. Everything else is: a new kind of key is in the export without anybody thinking of it.
var Skip = []string{
	"cache", "shelf", "log", "objects",
	"store.db", "store.db-wal", "store.db-shm", "store.db-journal", "store.db.migrate", "store.db.imported*", ".export-*", ".import-*", "export.lock", MarkerName, "before-restore-*",
	"probed", "*.pid", "images", "instances/*/volume.img*", "instances/*/console.log*", ".*.[0-9]*", "*/.*.[0-9]*", "*/*/.*.[0-9]*",
}

// cloudFiles are what lies in the local cloud's directory.
var cloudFiles = []string{"instances", "network", "network.json", "images"}

// Collect returns the files of a deployment, read into memory, and the names of what was left out for its size. Files that vanish meanwhile are not there:
// what belongs to an instance goes with it.
func Collect(state, cloud string) (all []Content, leftOut []string, err error) {
	for _, r := range []root{{name: RootState, dir: state, without: cloudFiles}, {name: RootCloud, dir: cloud, only: cloudFiles}} {
		err := filepath.WalkDir(r.dir, func(file string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(r.dir, file)
			if err != nil || rel == "." {
				return err
			}
			rel = filepath.ToSlash(rel)
			switch {
			case !r.skips(rel):
			case e.IsDir():
				return fs.SkipDir
			default:
				return nil
			}
			c, tooLarge, err := collect(r.name+"/"+rel, file, e)
			if tooLarge {
				leftOut = append(leftOut, r.name+"/"+rel)
			}
			if c != nil {
				all = append(all, *c)
			}
			return err
		})
		if err != nil {
			return nil, nil, fmt.Errorf("collect the files of %s: %w", r.dir, err)
		}
	}
	return all, leftOut, nil
}

// root is a directory whose files are taken, and which of the names in it.
type root struct {
	name, dir     string
	only, without []string
}

func (r root) skips(rel string) bool {
	top, _, _ := strings.Cut(rel, "/")
	return slices.Contains(r.without, top) || r.only != nil && !slices.Contains(r.only, top) || skipped(rel)
}

func skipped(rel string) bool {
	for _, s := range Skip {
		if ok, _ := path.Match(s, rel); ok {
			return true
		}
	}
	return false
}

// collect reads one file; nothing for a directory or what is no file.
func collect(name, file string, e fs.DirEntry) (c *Content, leftOut bool, err error) {
	if !e.Type().IsRegular() {
		return nil, false, nil
	}
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	if info.Size() > maxFile {
		return nil, true, nil
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, false, err
	}
	content := Bytes(name, uint32(info.Mode().Perm()), data)
	return &content, false, nil
}
