package file

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/trove-dbaas/trove/backupstore"
)

// A file is the object's bytes, then what is known of it as JSON, then the length of that and a mark. One file, so one rename makes both seen; the bytes
// first, so that a range is where it is in the object.
const (
	mark       = "troveob1"
	endSize    = 4 + len(mark)
	maxTrailer = 64 << 10
)

type trailer struct {
	Name     string            `json:"name"`
	Size     int64             `json:"size"`
	SHA256   string            `json:"sha256"`
	Modified int64             `json:"modified"` // microseconds
	Meta     map[string]string `json:"meta,omitempty"`
}

func writeTrailer(w io.Writer, o backupstore.Object) error {
	data, err := json.Marshal(trailer{Name: o.Name, Size: o.Size, SHA256: o.SHA256, Modified: o.Modified.UnixMicro(), Meta: o.Meta})
	if err != nil {
		return err
	}
	data = binary.BigEndian.AppendUint32(data, uint32(len(data)))
	_, err = w.Write(append(data, mark...))
	return err
}

var errDamaged = errors.New("the file is not an object of this store: it was cut, moved or made by something else")

// readTrailer reads what is known of an object, and refuses a file that is not the one that Put wrote under this name.
func readTrailer(f *os.File, name string) (backupstore.Object, error) {
	info, err := f.Stat()
	if err != nil {
		return backupstore.Object{}, err
	}
	if !info.Mode().IsRegular() || info.Size() < int64(endSize) {
		return backupstore.Object{}, errDamaged
	}
	end := make([]byte, endSize)
	if _, err := f.ReadAt(end, info.Size()-int64(endSize)); err != nil {
		return backupstore.Object{}, err
	}
	length := int64(binary.BigEndian.Uint32(end))
	begins := info.Size() - int64(endSize) - length
	if string(end[4:]) != mark || length > maxTrailer || begins < 0 {
		return backupstore.Object{}, errDamaged
	}
	data := make([]byte, length)
	if _, err := f.ReadAt(data, begins); err != nil {
		return backupstore.Object{}, err
	}
	var t trailer
	if err := json.Unmarshal(data, &t); err != nil || t.Name != name || t.Size != begins {
		return backupstore.Object{}, errDamaged
	}
	return backupstore.Object{Name: t.Name, Size: t.Size, SHA256: t.SHA256, Modified: time.UnixMicro(t.Modified).UTC(), Meta: t.Meta}, nil
}

// openObject opens an object in its directory.
func openObject(parent directory, file, name string) (*os.File, backupstore.Object, error) {
	f, err := parent.open(file, os.O_RDONLY)
	if err != nil {
		return nil, backupstore.Object{}, err
	}
	o, err := readTrailer(f, name)
	if err != nil {
		_ = f.Close()
		return nil, backupstore.Object{}, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return f, o, nil
}
