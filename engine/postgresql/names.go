package postgresql

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	trove "github.com/trove-dbaas/trove"
)

// quote makes an identifier of any text. Between double quotes the server knows no escape but the doubled quote.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// literal makes a text of any text: the agent's sessions set standard_conforming_strings, so a backslash is a backslash.
func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// ownerOf names the role that owns a database. A name that would be too long ends in a digest.
func ownerOf(database string) string {
	name := ownerStart + database
	if len(name) <= maxName {
		return name
	}
	sum := sha256.Sum256([]byte(database))
	digest := "~" + hex.EncodeToString(sum[:8])
	cut := name[:maxName-len(digest)]
	for !utf8.ValidString(cut) {
		cut = cut[:len(cut)-1]
	}
	return cut + digest
}

func checkText(what, name string, limit int) error {
	switch {
	case name == "":
		return trove.Errorf(trove.KindBadRequest, "The %s must not be empty.", what)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, badRune):
		return trove.Errorf(trove.KindBadRequest, "The %s %q has characters that are not allowed.", what, name)
	case len(name) > limit:
		return trove.Errorf(trove.KindBadRequest, "The %s %q is too long: at most %d bytes.", what, name, limit)
	case strings.TrimSpace(name) != name:
		return trove.Errorf(trove.KindBadRequest, "The %s %q must not begin or end with a space.", what, name)
	}
	return nil
}

// badRune: control characters would break lines of logs, and of what clients write.
func badRune(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }

func checkDatabase(name string) error {
	if err := checkText("database name", name, maxName-len(ownerStart)); err != nil {
		return err
	}
	if slices.Contains(reservedDatabases, name) {
		return trove.Errorf(trove.KindBadRequest, "The database name %q is reserved.", name)
	}
	return nil
}

func checkUser(name, host string) error {
	if err := checkText("user name", name, maxName); err != nil {
		return err
	}
	if slices.Contains(reservedUsers, name) || strings.HasPrefix(name, "pg_") || strings.HasPrefix(name, ownerStart) || name == "public" || name == "none" {
		return trove.Errorf(trove.KindBadRequest, "The user name %q is reserved.", name)
	}
	if host != "" && host != "%" {
		return trove.Errorf(trove.KindBadRequest, "Users of PostgreSQL are not bound to hosts: leave the host %q out.", host)
	}
	return nil
}

func checkPassword(password trove.Secret) error {
	if password == "" {
		return trove.Errorf(trove.KindBadRequest, "The password must not be empty.")
	}
	if strings.ContainsRune(password.Reveal(), 0) {
		return trove.Errorf(trove.KindBadRequest, "The password must have no zero byte.")
	}
	return nil
}

var localePattern = regexp.MustCompile(`^[A-Za-z0-9_.@-]{1,63}$`)

// checkLocale allows "" for the server's default.
func checkLocale(what, name string) error {
	if name == "" || localePattern.MatchString(name) {
		return nil
	}
	return trove.Errorf(trove.KindBadRequest, "%q is not a %s.", name, what)
}
