package postgresql

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	trove "github.com/trove-dbaas/trove"
)

const (
	scramRounds = 4096 // the server's default
	scramSalt   = 16   // bytes
)

// verifier returns what the server keeps of a password for SCRAM-SHA-256 (RFC 5803): it can check a password with it, nobody can read it from there.
func verifier(password trove.Secret) (string, error) {
	salt := make([]byte, scramSalt)
	if _, err := rand.Read(salt); err != nil {
		return "", fmt.Errorf("make a salt: %w", err)
	}
	return verifierOf(password, salt)
}

func verifierOf(password trove.Secret, salt []byte) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, saslPrep(password.Reveal()), salt, scramRounds, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("hash a password: %w", err)
	}
	mac := func(text string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(mac("Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", scramRounds, encode(salt), encode(stored[:]), encode(mac("Server Key"))), nil
}

// saslPrep prepares a password as clients do before they hash it (RFC 4013): spaces are one space, what is not seen is left out, compatible characters are
// one. Where that is not allowed, server and clients take the bytes as they are.
func saslPrep(password string) string {
	if !utf8.ValidString(password) {
		return password
	}
	mapped := strings.Map(func(r rune) rune {
		switch {
		case r == 0x200B || unicode.Is(unicode.Zs, r):
			return ' '
		case r == 0xAD, r == 0x34F, r == 0x1806, r >= 0x180B && r <= 0x180D, r == 0x200C, r == 0x200D, r == 0x2060, r >= 0xFE00 && r <= 0xFE0F, r == 0xFEFF:
			return -1
		}
		return r
	}, password)
	prepared := norm.NFKC.String(mapped)
	if prepared == "" || strings.ContainsFunc(prepared, prohibited) || mixedDirections(prepared) {
		return password
	}
	return prepared
}

// prohibited are the tables C of RFC 3454 that RFC 4013 names.
func prohibited(r rune) bool {
	switch {
	case unicode.IsControl(r), unicode.Is(unicode.Co, r), unicode.Is(unicode.Cs, r), unicode.Is(unicode.Noncharacter_Code_Point, r):
		return true
	case r >= 0x200E && r <= 0x200F, r >= 0x2028 && r <= 0x202E, r >= 0x206A && r <= 0x206F, r >= 0x2060 && r <= 0x2063, r >= 0xFFF9 && r <= 0xFFFD:
		return true
	case r >= 0x2FF0 && r <= 0x2FFB, r == 0x6DD, r == 0x70F, r == 0x180E, r == 0x340, r == 0x341, r >= 0x1D173 && r <= 0x1D17A, r >= 0xE0000 && r <= 0xE007F:
		return true
	}
	return false
}

// mixedDirections reports a text with characters from right to left that does not begin and end with one, or has others from left to right.
func mixedDirections(text string) bool {
	rtl := func(r rune) bool {
		return unicode.In(r, unicode.Hebrew, unicode.Arabic, unicode.Syriac, unicode.Thaana) && (unicode.IsLetter(r) || r == 0x5BE || r == 0x5C0 || r == 0x5C3)
	}
	if !strings.ContainsFunc(text, rtl) {
		return false
	}
	first, _ := utf8.DecodeRuneInString(text)
	last, _ := utf8.DecodeLastRuneInString(text)
	return !rtl(first) || !rtl(last) || strings.ContainsFunc(text, func(r rune) bool { return unicode.IsLetter(r) && !rtl(r) })
}
