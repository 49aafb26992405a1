package redis

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
)

// What accounts may do. The server puts every command into categories; @admin and @dangerous are taken away whole, so that a command which a later version
// brings is not allowed by mistake, and what a tenant needs of them is given back by name. docs/drivers/engine-redis.md has the reasons one by one.
var (
	// userCommands: on its own keys a user may do what it wants, and look at what its server does.
	userCommands = []string{
		"keys", "sort", "sort_ro", "flushall", "flushdb", "swapdb", "restore",
		"info", "role", "lastsave", "client|list", "slowlog|get", "slowlog|len",
		"latency|latest", "latency|history", "latency|histogram", "latency|doctor", "latency|graph",
	}
	// rootCommands: root may also see what others do, end their connections and have the data written.
	rootCommands = []string{
		"monitor", "client|kill", "client|unblock", "client|no-evict", "config|get", "config|resetstat", "latency|reset", "slowlog|reset",
		"bgsave", "bgrewriteaof", "acl|users", "acl|log", "acl|dryrun", "module|list",
	}
)

// rules returns what an account with these commands may do, in the words of ACL SETUSER.
func rules(commands ...[]string) []string {
	all := []string{"sanitize-payload", "~*", "&*", "+@all", "-@admin", "-@dangerous"}
	for _, c := range slices.Concat(commands...) {
		all = append(all, "+"+c)
	}
	return all
}

func (p product) userRules() []string { return rules(userCommands, p.reads) }
func (p product) rootRules() []string { return rules(userCommands, p.reads, rootCommands) }

var (
	adminRules = []string{"~*", "&*", "+@all"}
	nobody     = []string{"reset", "sanitize-payload"} // off, without a password, a key or a command
)

// passwordHash returns what the server keeps of a password.
func passwordHash(password trove.Secret) string {
	sum := sha256.Sum256([]byte(password.Reveal()))
	return hex.EncodeToString(sum[:])
}

// withPassword are the rules of an account that may log in.
func withPassword(hash string, rules []string) []string {
	return append([]string{"reset", "on", "#" + hash}, rules...)
}

// userLine is a line of the file of users.
func userLine(name string, rules []string) string {
	return "user " + name + " " + strings.Join(rules, " ")
}

// writeUsers replaces the file of users; lines are those beside the agent's own account.
func (p place) writeUsers(admin string, lines []string) error {
	all := append([]string{userLine(adminName, withPassword(passwordHash(trove.Secret(admin)), adminRules))}, lines...)
	return guestfiles.Write(p.usersFile(), []byte(strings.Join(all, "\n")+"\n"), 0o600, p.UID, p.GID)
}

// maxUsersFile is the largest file of users that is read.
const maxUsersFile = 64 << 20

// mendUsers makes the agent's account in the file of users the one that is kept, and the file if it is gone; then root is off. The rest of it stays as the
// server wrote it. Where nothing is to be mended nothing is written: a start must not need space on a volume that is full.
func (p place) mendUsers(admin string) error {
	f, err := os.OpenFile(p.usersFile(), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0) // the engine's account may put a link or a pipe there
	if errors.Is(err, os.ErrNotExist) {
		return p.writeUsers(admin, []string{userLine(rootName, nobody)})
	}
	if err != nil {
		return fmt.Errorf("read the users: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxUsersFile {
		return errors.Join(fmt.Errorf("read the users: %s is no file of users", p.usersFile()), err)
	}
	data := make([]byte, info.Size())
	if _, err := f.ReadAt(data, 0); err != nil {
		return fmt.Errorf("read the users: %w", err)
	}
	want := "#" + passwordHash(trove.Secret(admin))
	var others []string
	whole := false
	for line := range bytes.Lines(data) {
		text := strings.TrimSpace(string(line))
		words := strings.Fields(text)
		if len(words) < 2 || words[1] != adminName {
			others = append(others, text)
			continue
		}
		whole = slices.Contains(words, "on") && slices.Contains(words, want) && slices.Contains(words, "+@all") && slices.Contains(words, "~*")
	}
	if whole {
		return nil
	}
	return p.writeUsers(admin, others)
}

// checkUser allows every name that the server can write into its file of users: it parts words at spaces.
func checkUser(name, host string) error {
	switch {
	case name == "":
		return trove.Errorf(trove.KindBadRequest, "The user name must not be empty.")
	case !utf8.ValidString(name) || strings.ContainsFunc(name, badRune):
		return trove.Errorf(trove.KindBadRequest, "The user name %q has characters that are not allowed.", name)
	case utf8.RuneCountInString(name) > maxUserName:
		return trove.Errorf(trove.KindBadRequest, "The user name %q is too long: at most %d characters.", name, maxUserName)
	case slices.Contains(reservedUsers, name):
		return trove.Errorf(trove.KindBadRequest, "The user name %q is reserved.", name)
	}
	return checkHost(host)
}

func checkHost(host string) error {
	if host != "" && host != anyHost {
		return trove.Errorf(trove.KindBadRequest, "Users of this database are not bound to a host: %q cannot be used.", host)
	}
	return nil
}

func badRune(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }

func checkPassword(password trove.Secret) error {
	if password == "" {
		return trove.Errorf(trove.KindBadRequest, "The password must not be empty.")
	}
	return nil
}
