package keyring

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
)

// Key is a master key without what makes it one.
type Key struct {
	ID   string
	Made time.Time // zero: by the first version, which did not write it down
}

// Ring are master keys, each a line of text: its id of 8 hexadecimal digits, 32 bytes in base64, and when it was made. The first one seals, all open.
type Ring struct {
	keys  []Key
	lines map[string]string // by id, as they were read
	aead  map[string]cipher.AEAD
}

func (r *Ring) current() string { return r.keys[0].ID }

// Parse reads lines.
func Parse(data []byte) (*Ring, error) {
	r := &Ring{lines: map[string]string{}, aead: map[string]cipher.AEAD{}}
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
		return nil, errors.New("there is no key")
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

// makeLine makes a key.
func makeLine() (string, error) {
	random := make([]byte, 4+chacha20poly1305.KeySize)
	if _, err := rand.Read(random); err != nil {
		return "", err
	}
	return hex.EncodeToString(random[:4]) + " " + base64.StdEncoding.EncodeToString(random[4:]), nil
}

// Next returns the key that Prepare made and Rotate has not put to use yet; false: there is none. It is the last one, and younger than the one that seals.
func Next(keys []Key) (Key, bool) {
	last := keys[len(keys)-1]
	return last, last.Made.After(keys[0].Made)
}

// Make makes a line with a key and when it was made.
func Make(now time.Time) (string, Key, error) {
	line, err := makeLine()
	if err != nil {
		return "", Key{}, err
	}
	k := Key{ID: line[:8], Made: now.UTC().Truncate(time.Second)}
	return line + " " + k.Made.Format(time.RFC3339), k, nil
}

// Keys returns the keys without what makes them ones.
func (r *Ring) Keys() []Key { return slices.Clone(r.keys) }

// Line returns the line of a key. It is the key.
func (r *Ring) Line(id string) string { return r.lines[id] }

// Lines returns all lines. They are the keys.
func (r *Ring) Lines() (lines []string) {
	for _, k := range r.keys {
		lines = append(lines, r.lines[k.ID])
	}
	return lines
}
