package mysqlfamily

import (
	"errors"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	trove "github.com/trove-dbaas/trove"
)

// quote makes an identifier, user name or host of any text. Between backticks the server knows no escape but the doubled backtick, whatever
// its sql_mode says; with string quotes the backslash would depend on it.
func quote(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// account names a user in a statement.
func account(name, host string) string { return quote(name) + "@" + quote(host) }

var grantEscaper = strings.NewReplacer(`\`, `\\`, `_`, `\_`, `%`, `\%`)

// grantPattern returns the database's name as GRANT wants it, where _ and % are wildcards. The server's column has room for 64 characters: a long
// name that does not fit with its escapes goes without, and then also means databases whose names differ in place of a _ or %.
func grantPattern(database string) string {
	if escaped := grantEscaper.Replace(database); utf8.RuneCountInString(escaped) <= maxName {
		return escaped
	}
	return strings.ReplaceAll(database, `\`, `\\`)
}

// grantedName is the reverse of grantPattern.
func grantedName(pattern string) string {
	var b strings.Builder
	escaped := false
	for _, r := range pattern {
		if r == '\\' && !escaped {
			escaped = true
			continue
		}
		b.WriteRune(r)
		escaped = false
	}
	return b.String()
}

func checkText(what, name string, limit int) error {
	switch {
	case name == "":
		return trove.Errorf(trove.KindBadRequest, "The %s must not be empty.", what)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, badRune):
		return trove.Errorf(trove.KindBadRequest, "The %s %q has characters that are not allowed.", what, name)
	case utf8.RuneCountInString(name) > limit:
		return trove.Errorf(trove.KindBadRequest, "The %s %q is too long: at most %d characters.", what, name, limit)
	case strings.TrimSpace(name) != name:
		return trove.Errorf(trove.KindBadRequest, "The %s %q must not begin or end with a space.", what, name)
	}
	return nil
}

// badRune: control characters would break the init file's lines, and the server's names end at the basic multilingual plane.
func badRune(r rune) bool {
	return unicode.IsControl(r) || r > 0xFFFF || r == '\u2028' || r == '\u2029'
}

func checkDatabase(name string) error {
	if err := checkText("database name", name, maxName-strings.Count(name, `\`)); err != nil { // each backslash is doubled in a grant
		return err
	}
	// Compared without case: with lower_case_table_names set, MYSQL is mysql.
	if slices.ContainsFunc(reservedDatabases, func(r string) bool { return strings.EqualFold(r, name) }) || strings.HasPrefix(name, "#mysql50#") {
		return trove.Errorf(trove.KindBadRequest, "The database name %q is reserved.", name)
	}
	return nil
}

func (p *Product) checkUser(name, host string) error {
	if err := checkText("user name", name, p.MaxUserName); err != nil {
		return err
	}
	if p.reserved(name) {
		return trove.Errorf(trove.KindBadRequest, "The user name %q is reserved.", name)
	}
	return p.checkHost(host)
}

var hostPattern = regexp.MustCompile(`^[A-Za-z0-9._:%/-]+$`)

// checkHost allows addresses, networks as address/netmask (the server takes no address/bits), host names and patterns with % and _.
func (p *Product) checkHost(host string) error {
	if err := checkText("host", host, p.MaxHost); err != nil {
		return err
	}
	if !hostPattern.MatchString(host) {
		return trove.Errorf(trove.KindBadRequest, "%q is not a valid host.", host)
	}
	if address, mask, found := strings.Cut(host, "/"); found {
		_, errA := netip.ParseAddr(address)
		_, errM := netip.ParseAddr(mask)
		if err := errors.Join(errA, errM); err != nil {
			return trove.Wrap(trove.KindBadRequest, err, "%q is not a valid host: a network is written as address/netmask.", host)
		}
	}
	return nil
}

func checkPassword(password trove.Secret) error {
	if password == "" {
		return trove.Errorf(trove.KindBadRequest, "The password must not be empty.")
	}
	return nil
}

var charsetPattern = regexp.MustCompile(`^[A-Za-z0-9_]{1,64}$`)

// checkCharset allows "" for the server's default.
func checkCharset(what, name string) error {
	if name == "" || charsetPattern.MatchString(name) {
		return nil
	}
	return trove.Errorf(trove.KindBadRequest, "%q is not a %s.", name, what)
}

func hostOrAny(host string) string {
	if host == "" {
		return anyHost
	}
	return host
}
