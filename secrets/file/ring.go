package file

import (
	"bufio"
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/keyfile"
)

// Key is a master key without what makes it one.
type Key struct {
	ID   string
	Made time.Time // zero: by the first version, which did not write it down
}

// ring is the content of the key file: a line for each key, with its id of 8 hexadecimal digits, 32 bytes in base64, and when it was made. The first line
// seals, all open.
type ring struct {
	keys  []Key
	lines map[string]string // by id, as they are in the file
	aead  map[string]cipher.AEAD
}

func (r *ring) current() string { return r.keys[0].ID }

func readRing(path string) (*ring, error) {
	data, err := keyfile.Load(path)
	if err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	r, err := parseRing(data)
	if err != nil {
		return nil, fmt.Errorf("master key: %s: %w", path, trove.Permanent(err))
	}
	return r, nil
}

func parseRing(data []byte) (*ring, error) {
	r := &ring{lines: map[string]string{}, aead: map[string]cipher.AEAD{}}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		key, aead, err := parseKey(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if _, double := r.aead[key.ID]; double {
			return nil, fmt.Errorf("line %d: this id is there twice", n)
		}
		r.keys = append(r.keys, key)
		r.lines[key.ID], r.aead[key.ID] = line, aead
	}
	if len(r.keys) == 0 {
		return nil, errors.New("the file holds no key")
	}
	return r, nil
}

func parseKey(line string) (Key, cipher.AEAD, error) {
	fields := strings.Fields(line)
	if raw, err := hex.DecodeString(fields[0]); err != nil || len(raw) != 4 {
		return Key{}, nil, errors.New("the key's id is not 8 hexadecimal digits")
	}
	if len(fields) < 2 {
		return Key{}, nil, errors.New("the key is missing")
	}
	k := Key{ID: fields[0]}
	if len(fields) > 2 {
		var err error
		if k.Made, err = time.Parse(time.RFC3339, fields[2]); err != nil {
			return Key{}, nil, errors.New("the time when the key was made cannot be read")
		}
	}
	key, err := base64.StdEncoding.DecodeString(fields[1])
	if err != nil {
		return Key{}, nil, errors.New("the key is not base64") // the cause would show a part of it
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return Key{}, nil, errors.New("the key does not have 32 bytes")
	}
	return k, aead, nil
}

func makeFile() ([]byte, error) {
	line, err := makeLine()
	return []byte(line + "\n"), err
}

// makeLine makes a key.
func makeLine() (string, error) {
	random := make([]byte, 4+chacha20poly1305.KeySize)
	if _, err := rand.Read(random); err != nil {
		return "", err
	}
	return hex.EncodeToString(random[:4]) + " " + base64.StdEncoding.EncodeToString(random[4:]), nil
}

// Keys returns the keys in the file; the first one seals.
func Keys(path string) ([]Key, error) {
	r, err := readRing(path)
	if err != nil {
		return nil, err
	}
	return r.keys, nil
}

// Next returns the key that Prepare made and Rotate has not put to use yet; false: there is none. It is the last one, and younger than the one that seals.
func Next(keys []Key) (Key, bool) {
	last := keys[len(keys)-1]
	return last, last.Made.After(keys[0].Made)
}

// makeDated makes a line with a key and when it was made.
func makeDated(now time.Time) (string, Key, error) {
	line, err := makeLine()
	if err != nil {
		return "", Key{}, err
	}
	k := Key{ID: line[:8], Made: now.UTC().Truncate(time.Second)}
	return line + " " + k.Made.Format(time.RFC3339), k, nil
}

// Prepare puts the next key below the others: it opens and does not seal yet, so that copies of the file can be brought to where else it is needed before
// anything is sealed that does not open there. If there is a next key already it stays.
func Prepare(path string, now time.Time) (Key, error) {
	var made Key
	err := change(path, func(r *ring) ([]string, error) {
		if next, ok := Next(r.keys); ok {
			made = next
			return r.all(), nil
		}
		if first := r.keys[0].Made.Add(time.Second); now.Before(first) {
			now = first
		}
		line, k, err := makeDated(now)
		made = k
		return append(r.all(), line), err
	})
	return made, err
}

// Rotate puts a new key above the others, the prepared one if there is one: from now on it seals, in every process that has the file open. What was sealed
// before opens as before.
func Rotate(path string, now time.Time) (Key, error) {
	var made Key
	err := change(path, func(r *ring) ([]string, error) {
		all := r.all()
		if next, ok := Next(r.keys); ok {
			made = Key{ID: next.ID, Made: now.UTC().Truncate(time.Second)} // the one before was replaced now, not when this one was prepared
			line := strings.Join(append(strings.Fields(all[len(all)-1])[:2], made.Made.Format(time.RFC3339)), " ")
			return append([]string{line}, all[:len(all)-1]...), nil
		}
		line, k, err := makeDated(now)
		made = k
		return append([]string{line}, all...), err
	})
	return made, err
}

// Drop removes keys from the file. The one that seals stays. What is still sealed under a dropped key is lost: the caller has looked.
func Drop(path string, ids ...string) error {
	return change(path, func(r *ring) ([]string, error) {
		var lines []string
		for _, k := range r.keys {
			if k.ID == r.current() || !slices.Contains(ids, k.ID) {
				lines = append(lines, r.lines[k.ID])
			}
		}
		return lines, nil
	})
}

func (r *ring) all() (lines []string) {
	for _, k := range r.keys {
		lines = append(lines, r.lines[k.ID])
	}
	return lines
}

// change replaces the file, one process after another.
func change(path string, lines func(*ring) ([]string, error)) error {
	return keyfile.Replace(path, func(data []byte) ([]byte, error) { //nolint:wrapcheck // says which file
		r, err := parseRing(data)
		if err != nil {
			return nil, err
		}
		list, err := lines(r)
		return []byte(strings.Join(list, "\n") + "\n"), err
	})
}
