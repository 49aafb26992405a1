package agentrelease

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/atomicfile"
)

// ReadSigned reads manifest and signature from a release's directory. What is missing is NotFound; nothing is verified.
func ReadSigned(dir string) (Signed, error) {
	var s Signed
	var err error
	if s.Manifest, err = readSmall(filepath.Join(dir, ManifestFile)); err != nil {
		return Signed{}, err
	}
	s.Signature, err = readSmall(filepath.Join(dir, SignatureFile))
	if trove.IsNotFound(err) {
		return s, nil // Verify says that it is not signed
	}
	return s, err
}

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, trove.Wrap(trove.KindNotFound, err, "There is no %s in %s.", filepath.Base(path), filepath.Dir(path))
	}
	if err != nil {
		return nil, fmt.Errorf("read a release: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxManifest+1))
	if err != nil {
		return nil, fmt.Errorf("read a release: %w", err)
	}
	return data, nil
}

// WriteSigned writes manifest and signature into a directory, each replaced whole.
func WriteSigned(dir string, s Signed) error {
	if err := atomicfile.Write(filepath.Join(dir, ManifestFile), s.Manifest, 0o600); err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, SignatureFile), s.Signature, 0o600)
}

// CopyProgram copies the program from r to w and returns nil if it was, to the byte, the one of the manifest. Who reads w must not believe it before.
func CopyProgram(w io.Writer, r io.Reader, m Manifest) error {
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, sum), io.LimitReader(r, m.Size+1))
	if err != nil {
		return fmt.Errorf("copy the program of release %s: %w", m.Version, err)
	}
	if n != m.Size || hex.EncodeToString(sum.Sum(nil)) != m.SHA256 {
		return refuse("The program of release %s is not the one that was signed: it was changed or is cut off.", m.Version)
	}
	return nil
}

// CheckProgram compares the program in a release's directory with its manifest.
func CheckProgram(dir string, m Manifest) error {
	f, err := os.Open(filepath.Join(dir, ProgramFile))
	if errors.Is(err, fs.ErrNotExist) {
		return trove.Wrap(trove.KindNotFound, err, "There is no program in %s.", dir)
	}
	if err != nil {
		return fmt.Errorf("read a release: %w", err)
	}
	defer f.Close()
	return CopyProgram(io.Discard, f, m)
}

// Store is a directory of releases, each in a directory with the name of its version. Its fields are not changed while it is used.
type Store struct {
	Dir  string
	Keys func() (Keys, error) // read at each use: keys may change
}

// Add verifies a release's directory and takes a copy of it. A version that is there stays; if it is another program that is a Conflict.
func (s Store) Add(from string) (Manifest, error) {
	m, signed, err := s.verified(from)
	if err != nil {
		return Manifest{}, err
	}
	if old, _, err := s.verified(filepath.Join(s.Dir, m.Version)); err == nil {
		if old.SHA256 != m.SHA256 {
			return Manifest{}, trove.Errorf(trove.KindConflict, "There is another program of the version %s already; give the new one a new version.", m.Version)
		}
		return old, nil
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return Manifest{}, fmt.Errorf("make the directory of releases: %w", err)
	}
	work, err := os.MkdirTemp(s.Dir, ".new-")
	if err != nil {
		return Manifest{}, fmt.Errorf("add the release: %w", err)
	}
	defer func() { _ = os.RemoveAll(work) }() // gone after the rename
	if err := WriteProgram(filepath.Join(from, ProgramFile), filepath.Join(work, ProgramFile), m); err != nil {
		return Manifest{}, err
	}
	if err := WriteSigned(work, signed); err != nil {
		return Manifest{}, err
	}
	to := filepath.Join(s.Dir, m.Version)
	if err := errors.Join(os.RemoveAll(to), os.Rename(work, to)); err != nil {
		return Manifest{}, fmt.Errorf("add the release: %w", err)
	}
	return m, nil
}

// WriteProgram copies a program, compares it and has it on the disk before it returns nil.
func WriteProgram(from, to string, m Manifest) error {
	in, err := os.Open(from)
	if err != nil {
		return trove.Wrap(trove.KindNotFound, err, "The program %s cannot be read.", from)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("copy the program: %w", err)
	}
	return errors.Join(CopyProgram(out, in, m), out.Sync(), out.Close())
}

func (s Store) verified(dir string) (Manifest, Signed, error) {
	keys, err := s.Keys()
	if err != nil {
		return Manifest{}, Signed{}, err
	}
	signed, err := ReadSigned(dir)
	if err != nil {
		return Manifest{}, Signed{}, err
	}
	m, err := Verify(keys, signed)
	if err != nil {
		return Manifest{}, Signed{}, err
	}
	return m, signed, CheckProgram(dir, m)
}

// Get returns a release, "" for the newest one, after it was verified. NotFound if there is none.
func (s Store) Get(version string) (Manifest, Signed, error) {
	if version == "" {
		all, err := s.List()
		if err != nil {
			return Manifest{}, Signed{}, err
		}
		if len(all) == 0 {
			return Manifest{}, Signed{}, trove.Errorf(trove.KindNotFound, "There is no release of the guest agent here; add one with trove manage agent add.")
		}
		version = all[len(all)-1].Version
	}
	if _, err := ParseVersion(version); err != nil { // it becomes a path
		return Manifest{}, Signed{}, err
	}
	m, signed, err := s.verified(filepath.Join(s.Dir, version))
	if trove.IsNotFound(err) {
		return m, signed, trove.Wrap(trove.KindNotFound, err, "There is no release %s of the guest agent here; add it with trove manage agent add.", version)
	}
	if err == nil && m.Version != version {
		err = refuse("The release %s lies in the place of %s.", m.Version, version)
	}
	return m, signed, err
}

// List returns the manifests of the releases that are there, the oldest version first. Whether they verify is not asked.
func (s Store) List() ([]Manifest, error) {
	entries, err := os.ReadDir(s.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the releases: %w", err)
	}
	var all []Manifest
	for _, e := range entries {
		if _, err := ParseVersion(e.Name()); err != nil {
			continue
		}
		signed, err := ReadSigned(filepath.Join(s.Dir, e.Name()))
		if err != nil {
			continue
		}
		if m, err := Parse(signed.Manifest); err == nil {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b Manifest) int { return a.Ordinal().Compare(b.Ordinal()) })
	return all, nil
}

// Program returns the path of a release's program. The version must be one that Get or List returned.
func (s Store) Program(version string) string { return filepath.Join(s.Dir, version, ProgramFile) }

// Describe makes the manifest of a program.
func Describe(path string, version Version, goos, arch string) (Manifest, error) {
	f, err := os.Open(path)
	if err != nil {
		return Manifest{}, trove.Wrap(trove.KindNotFound, err, "The program %s cannot be read.", path)
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(f, MaxProgram+1))
	if err != nil {
		return Manifest{}, fmt.Errorf("read the program: %w", err)
	}
	return Manifest{Name: Name, Version: version.String(), OS: goos, Arch: arch, Size: n, SHA256: hex.EncodeToString(sum.Sum(nil))}, nil
}
