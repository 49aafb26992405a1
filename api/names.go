package api

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestapi"
)

// nameRules are what Trove's API asks of the names of databases and users, with the datastore version's own limits and reserved names.
type nameRules struct {
	caps *trove.Capabilities
}

// The limits where the datastore version has none.
const (
	defaultMaxDatabaseName = 64
	defaultMaxUserName     = 16
	anyHost                = "%"
)

var (
	databaseName = regexp.MustCompile(`^[A-Za-z0-9_-]+[\s?#@]*[A-Za-z0-9_-]+$`)
	notInUsers   = regexp.MustCompile("^\\s|\\s$|'|\"|;|`|,|/|\\\\")
)

func rulesOf(v *trove.DatastoreVersion) nameRules { return nameRules{&v.Capabilities} }

// reserved returns the sentence that Trove says of a reserved name, "" for any other.
func reserved(what, name string, list []string) string {
	if !slices.Contains(list, name) {
		return ""
	}
	return what + ` name "` + name + `" is on the reserved list: ` + pythonList(list) + "."
}

func bad(format string, args ...any) error {
	return trove.Errorf(trove.KindBadRequest, format, args...)
}

// escaped reports whether Python would print the text with an escape: Trove refuses such names.
func escaped(s string) bool { return strings.Contains(pythonRepr(s), `\`) }

// known says that the datastore version has its driver's facts.
func (n nameRules) known() bool { return n.caps.Port > 0 }

func (n nameRules) database(name string) error {
	if n.known() && !n.caps.Databases {
		return bad("Databases with names, and rights on them, are not supported for this datastore.")
	}
	if text := reserved("Database", name, n.caps.ReservedDatabases); text != "" {
		return bad("%s", text)
	}
	if !databaseName.MatchString(name) || escaped(name) {
		return bad("'%s' is not a valid schema name.", name)
	}
	limit := n.caps.MaxDatabaseName
	if limit <= 0 {
		limit = defaultMaxDatabaseName
	}
	if utf8.RuneCountInString(name) > limit {
		return bad("Schema name '%s' is too long. Max length = %d.", name, limit)
	}
	return nil
}

// charset checks the pair against what the engine knows, if the datastore version says it.
func (n nameRules) charset(charset, collate string) error {
	if len(n.caps.CharacterSets) == 0 {
		return nil
	}
	if charset != "" {
		collations, ok := n.caps.CharacterSets[charset]
		switch {
		case !ok:
			return bad("'%s' not a valid character set.", charset)
		case collate != "" && !slices.Contains(collations, collate):
			return bad("%s not a valid collation for charset %s.", collate, charset)
		}
		return nil
	}
	if collate == "" {
		return nil
	}
	for _, collations := range n.caps.CharacterSets {
		if slices.Contains(collations, collate) {
			return nil
		}
	}
	return bad("'%s' not a valid collation.", collate)
}

// databases checks a list of wanted databases.
func (n nameRules) databases(want []object) ([]trove.Database, error) {
	var out []trove.Database
	seen := map[string]bool{}
	for _, w := range want {
		d := trove.Database{Name: w.str("name"), CharacterSet: w.str("character_set"), Collate: w.str("collate")}
		if err := n.database(d.Name); err != nil {
			return nil, err
		}
		if err := n.charset(d.CharacterSet, d.Collate); err != nil {
			return nil, err
		}
		if seen[d.Name] {
			return nil, bad("Two or more databases share the same name in the initial databases list. " +
				"Please correct the names or remove the duplicate entries.")
		}
		seen[d.Name] = true
		out = append(out, d)
	}
	return out, nil
}

// user checks a user's name; doing stands before the sentence ("User create error: ").
func (n nameRules) user(doing, name string) error {
	if text := reserved("User", name, n.caps.ReservedUsers); text != "" {
		return bad("%s%s", doing, text)
	}
	if name == "" || notInUsers.MatchString(name) || escaped(name) {
		return bad("%s'%s' is not a valid user name.", doing, name)
	}
	limit := n.caps.MaxUserName
	if limit <= 0 {
		limit = defaultMaxUserName
	}
	if utf8.RuneCountInString(name) > limit {
		return bad("%sUser name '%s' is too long. Max length = %d.", doing, name, limit)
	}
	return nil
}

func (n nameRules) host(doing, host string) error {
	if host != anyHost && n.known() && !n.caps.UserHosts {
		return bad("%sUsers of this datastore are not bound to hosts: '%s' cannot be used.", doing, host)
	}
	if !validHost(host) {
		return bad("%s'%s' is not a valid hostname.", doing, host)
	}
	return nil
}

// validHost accepts an IPv4 address with % for any part of it, also one with fewer parts ("10.%").
func validHost(host string) bool {
	if host == anyHost {
		return true
	}
	text := strings.ReplaceAll(host, "%", "1")
	for strings.Count(text, ".") < 3 && text != "" {
		text += ".0"
	}
	_, err := netip.ParseAddr(text)
	return err == nil
}

// users checks a list of wanted users; doing stands before sentences about a user.
func (n nameRules) users(want []object, doing string) ([]guestapi.UserArgs, error) {
	var out []guestapi.UserArgs
	seen := map[guestapi.UserRef]bool{}
	for _, w := range want {
		u := guestapi.UserArgs{Name: w.str("name"), Host: w.str("host"), Password: w.str("password")}
		if u.Host == "" {
			u.Host = anyHost
		}
		if err := n.user(doing, u.Name); err != nil {
			return nil, err
		}
		if err := n.host(doing, u.Host); err != nil {
			return nil, err
		}
		for _, d := range w.list("databases") {
			name := d.str("name")
			if err := n.database(name); err != nil {
				return nil, bad("%s%s", doing, trove.MessageOf(err))
			}
			u.Databases = append(u.Databases, name)
		}
		ref := guestapi.UserRef{Name: u.Name, Host: u.Host}
		if seen[ref] {
			return nil, bad("Two or more users share the same name and host in the initial users list. " +
				"Please correct the names or remove the duplicate entries.")
		}
		seen[ref] = true
		out = append(out, u)
	}
	return out, nil
}

// initialAccess checks that the databases of the users are among those that are made with them.
func (nameRules) initialAccess(users []guestapi.UserArgs, databases []trove.Database) error {
	for _, u := range users {
		for _, name := range u.Databases {
			if !slices.ContainsFunc(databases, func(d trove.Database) bool { return d.Name == name }) {
				return bad("The request indicates that user %s should have access to database %s, but database %s is not included in the "+
					"initial databases list.", u.Name, name, name)
			}
		}
	}
	return nil
}

// splitUser reads a user's id as it stands in a path: name@host or name, possibly escaped once more.
func splitUser(id string) guestapi.UserRef {
	id = unquote(id)
	at := strings.LastIndexByte(id, '@')
	if at < 0 || at == len(id)-1 {
		return guestapi.UserRef{Name: id, Host: anyHost}
	}
	return guestapi.UserRef{Name: id[:at], Host: id[at+1:]}
}
