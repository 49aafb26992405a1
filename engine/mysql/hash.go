package mysql

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	trove "github.com/trove-dbaas/trove"
)

const (
	saltLength = 20
	rounds     = 10 // thousands, as the server's default has them
)

// saltRunes is what a salt of ours is made of; the server allows any byte but 0 and $.
const saltRunes = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// passwordHash returns what caching_sha2_password keeps, in hexadecimal as the server takes and shows it: "$A$", the thousands of rounds in three
// hexadecimal digits, "$", a salt of 20 bytes and 43 characters of SHA-256 crypt. The server can check a password with it, nobody can read it from there.
func passwordHash(password trove.Secret) (string, error) {
	salt := make([]byte, saltLength)
	if _, err := rand.Read(salt); err != nil {
		return "", fmt.Errorf("make a salt: %w", err)
	}
	for i, b := range salt {
		salt[i] = saltRunes[int(b)%len(saltRunes)]
	}
	return hashWith(password, salt), nil
}

func hashWith(password trove.Secret, salt []byte) string {
	text := fmt.Sprintf("$A$%03X$%s%s", rounds, salt, crypt([]byte(password.Reveal()), salt, rounds*1000))
	return strings.ToUpper(hex.EncodeToString([]byte(text)))
}

// crypt is the SHA-256 variant of crypt(3), with a salt that may be longer than the 16 bytes which that allows; the names are those of its description.
func crypt(key, salt []byte, n int) string {
	b := sha256.Sum256(bytes.Join([][]byte{key, salt, key}, nil))
	a := sha256.New()
	a.Write(key)
	a.Write(salt)
	a.Write(stretch(b[:], len(key)))
	for i := len(key); i > 0; i >>= 1 {
		if i&1 != 0 {
			a.Write(b[:])
		} else {
			a.Write(key)
		}
	}
	c := a.Sum(nil)
	dp := sha256.Sum256(bytes.Repeat(key, len(key)))
	ds := sha256.Sum256(bytes.Repeat(salt, 16+int(c[0])))
	p, s := stretch(dp[:], len(key)), stretch(ds[:], len(salt))
	for i := range n {
		h := sha256.New()
		if i&1 != 0 {
			h.Write(p)
		} else {
			h.Write(c)
		}
		if i%3 != 0 {
			h.Write(s)
		}
		if i%7 != 0 {
			h.Write(p)
		}
		if i&1 != 0 {
			h.Write(c)
		} else {
			h.Write(p)
		}
		c = h.Sum(nil)
	}
	return encode(c)
}

// stretch repeats a digest to a length.
func stretch(digest []byte, length int) []byte {
	return bytes.Repeat(digest, length/len(digest)+1)[:length]
}

// encode writes a digest in crypt's own alphabet and order of bytes.
func encode(c []byte) string {
	const digits = saltRunes
	var out strings.Builder
	put := func(v uint32, n int) {
		for range n {
			out.WriteByte(digits[v&0x3f])
			v >>= 6
		}
	}
	for i := range 10 { // (0 10 20), (21 1 11), (12 22 2), ...
		x := [3]int{i, i + 10, i + 20}
		switch i % 3 {
		case 1:
			x = [3]int{i + 20, i, i + 10}
		case 2:
			x = [3]int{i + 10, i + 20, i}
		}
		put(uint32(c[x[0]])<<16|uint32(c[x[1]])<<8|uint32(c[x[2]]), 4)
	}
	put(uint32(c[31])<<8|uint32(c[30]), 3)
	return out.String()
}
