package recovery

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"filippo.io/age"
)

// Content is a part with what it holds.
type Content struct {
	Part
	Open func() (io.ReadCloser, error) // must give the bytes that the part's hash is of
}

// Bytes makes a content of bytes.
func Bytes(name string, mode uint32, data []byte) Content {
	sum := sha256.Sum256(data)
	return Content{
		Part: Part{Name: name, Size: int64(len(data)), Mode: mode, SHA256: hex.EncodeToString(sum[:])},
		Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil },
	}
}

// File makes a content of a file that nobody changes.
func File(name string, mode uint32, path string) (Content, error) {
	f, err := os.Open(path)
	if err != nil {
		return Content{}, fmt.Errorf("export %s: %w", name, err)
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	if err != nil {
		return Content{}, fmt.Errorf("export %s: %w", name, err)
	}
	return Content{
		Part: Part{Name: name, Size: n, Mode: mode, SHA256: hex.EncodeToString(sum.Sum(nil))},
		Open: func() (io.ReadCloser, error) { return os.Open(path) },
	}, nil
}

// Write writes an export of the contents, which the manifest gets as its parts. Nothing is held in memory but the manifest.
func Write(w io.Writer, to []age.Recipient, m Manifest, contents []Content) error {
	m.Format, m.Version = Format, Version
	m.Parts = make([]Part, 0, len(contents))
	for _, c := range contents {
		m.Parts = append(m.Parts, c.Part)
	}
	if err := m.check(); err != nil {
		return fmt.Errorf("write the export: %w", err)
	}
	sealed, err := age.Encrypt(w, to...)
	if err != nil {
		return fmt.Errorf("encrypt the export: %w", err)
	}
	archive := tar.NewWriter(sealed)
	text, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	if err := put(archive, m, Bytes(manifestName, 0o600, text)); err != nil {
		return err
	}
	for _, c := range contents {
		if err := put(archive, m, c); err != nil {
			return err
		}
	}
	if err := errors.Join(archive.Close(), sealed.Close()); err != nil {
		return fmt.Errorf("finish the export: %w", err)
	}
	return nil
}

func put(archive *tar.Writer, m Manifest, c Content) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: c.Name, Size: c.Size, Mode: int64(c.Mode), ModTime: m.CreatedAt.Truncate(time.Second)}
	if err := archive.WriteHeader(h); err != nil {
		return fmt.Errorf("export %s: %w", c.Name, err)
	}
	r, err := c.Open()
	if err != nil {
		return fmt.Errorf("export %s: %w", c.Name, err)
	}
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(archive, sum), r)
	if err = errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("export %s: %w", c.Name, err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != c.SHA256 {
		return fmt.Errorf("export %s: the file changed while it was read", c.Name)
	}
	return nil
}

// Read reads a whole export and checks everything in it. It calls visit, if not nil, for each part in order; what visit does with a part counts
// only if Read returns nil. With a nil visit it is the check before a restore.
func Read(r io.Reader, ids []age.Identity, visit func(Manifest, Part, io.Reader) error) (Manifest, error) {
	plain, err := decrypt(r, ids)
	if err != nil {
		return Manifest{}, err
	}
	archive := tar.NewReader(plain)
	m, err := readManifest(archive)
	if err != nil {
		return Manifest{}, err
	}
	for _, p := range m.Parts {
		if err := readPart(archive, m, p, visit); err != nil {
			return m, err
		}
	}
	if h, err := archive.Next(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = fmt.Errorf("%s is not in the manifest", h.Name)
		}
		return m, damaged("%v", err)
	}
	// To the very end: only there the encryption shows that nothing was cut off.
	if _, err := io.Copy(io.Discard, plain); err != nil {
		return m, damaged("%v", err)
	}
	return m, nil
}

// ReadManifest reads the beginning of an export: what is in it.
func ReadManifest(r io.Reader, ids []age.Identity) (Manifest, error) {
	plain, err := decrypt(r, ids)
	if err != nil {
		return Manifest{}, err
	}
	return readManifest(tar.NewReader(plain))
}

func readManifest(archive *tar.Reader) (Manifest, error) {
	var m Manifest
	h, err := archive.Next()
	if err != nil {
		return m, damaged("%v", err)
	}
	if h.Name != manifestName || h.Size > maxManifest {
		return m, damaged("it does not begin with a manifest")
	}
	if err := json.NewDecoder(archive).Decode(&m); err != nil {
		return m, damaged("its manifest cannot be read: %v", err)
	}
	return m, m.check()
}

func readPart(archive *tar.Reader, m Manifest, p Part, visit func(Manifest, Part, io.Reader) error) error {
	h, err := archive.Next()
	if err != nil {
		return damaged("%s is missing: %v", p.Name, err)
	}
	if h.Name != p.Name || h.Size != p.Size || h.Typeflag != tar.TypeReg {
		return damaged("%s stands where %s belongs", h.Name, p.Name)
	}
	sum := sha256.New()
	in := io.TeeReader(archive, sum)
	if visit != nil {
		if err := visit(m, p, in); err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return damaged("%s: %v", p.Name, err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != p.SHA256 {
		return damaged("%s has another hash than the manifest says", p.Name)
	}
	return nil
}
