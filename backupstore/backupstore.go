// Package backupstore is the port to where objects are kept that outlive a guest: published logs, backups.
//
// A store has containers, each of one project, and in them objects: named bytes with a size, a SHA-256 and a few words of metadata. There are no
// directories, only names that begin alike. An object is seen whole or not at all, and when Put has returned it survives a crash of the machine. Who may
// read or write what is not the store's matter: the object gateway and the API ask for it, guests never do. Not found is a trove.Error of
// kind NotFound; a name that CheckName or Container.Check refuses is BadRequest in each driver. All methods may be repeated, and may be called from several goroutines
// and several processes at once.
//
// Drivers: file (a directory), swift, mem (for tests, with knobs). backupstoretest is the suite that each must pass.
package backupstore

import (
	"context"
	"errors"
	"io"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	trove "github.com/trove-dbaas/trove"
)

// ErrMismatch is returned by Put when the bytes are not those that were announced. Nothing was stored.
var ErrMismatch = errors.New("the object is not the one that was announced")

// ErrFull is returned by Put when the store has no room. Nothing was stored; the same call may succeed when something was removed.
var ErrFull = errors.New("the object store has no room")

// Store keeps objects.
type Store interface {
	// Put stores an object, in place of one of that name unless IfAbsent says otherwise. The container is made if need be. An error of body is returned as it
	// is. After any error, and after a crash, nothing new is seen. With IfAbsent and an object that is there, the same bytes are a success that
	// changes nothing, other bytes are an error of kind Conflict; of two that come at once one wins.
	Put(ctx context.Context, c Container, name string, body io.Reader, o PutOptions) (Object, error)
	// Get opens an object for reading; it goes on to see the same bytes when it is replaced or removed meanwhile. A range that begins
	// behind the end is BadRequest; one that ends behind it is cut.
	Get(ctx context.Context, c Container, name string, r Range) (io.ReadCloser, Object, error)
	Stat(ctx context.Context, c Container, name string) (Object, error)
	// List returns objects ordered by the bytes of their names; none if the container is not there. Their metadata is left out where it costs a call for each:
	// Stat has it.
	List(ctx context.Context, c Container, o ListOptions) ([]Object, error)
	// Remove removes an object. Gone is fine.
	Remove(ctx context.Context, c Container, name string) error
	// RemoveAll removes all objects whose names begin with a prefix that is not empty, and returns how many there were.
	RemoveAll(ctx context.Context, c Container, prefix string) (int, error)
}

// Preparer is what a store has besides that keeps objects where the project they are of has rights of its own.
type Preparer interface {
	// Prepare makes the container, with the rights of the caller whom the context names, and lets the service write there from now on without him. It may be called
	// any number of times. Forbidden: the caller may not give that right.
	Prepare(ctx context.Context, c Container) error
}

type callerKey struct{}

// caller is who asks for what is done.
type caller struct {
	token   trove.Secret
	project string
}

// WithCaller returns a context for what is done on behalf of a caller: stores that keep objects where projects have rights of their own use his, and not those of the
// service, for containers of his project.
func WithCaller(ctx context.Context, token trove.Secret, project string) context.Context {
	return context.WithValue(ctx, callerKey{}, caller{token, project})
}

// Caller returns the token of the caller whom the context names if he is of the project, else "".
func Caller(ctx context.Context, project string) trove.Secret {
	if c, ok := ctx.Value(callerKey{}).(caller); ok && c.project == project && project != "" {
		return c.token
	}
	return ""
}

// Container names a container. Project "" is the deployment itself.
type Container struct {
	Project string
	Name    string
}

// PutOptions say what is stored.
type PutOptions struct {
	Size     int64             // that body must have; -1: any
	SHA256   string            // that body must have, in lower-case hexadecimal; "": any
	IfAbsent bool              // never replace
	Meta     map[string]string // at most MaxMeta bytes in all
}

// Range is a part of an object; the zero value is the whole.
type Range struct {
	Offset int64
	Length int64 // 0: to the end
}

// ListOptions choose objects.
type ListOptions struct {
	Prefix string
	Marker string // names after this one
	Limit  int    // 0: all
}

// Object is what a store knows of an object.
type Object struct {
	Name     string
	Size     int64
	SHA256   string // lower-case hexadecimal
	Modified time.Time
	Meta     map[string]string
}

// Limits of names and metadata, which every driver can hold.
const (
	MaxName    = 512 // bytes of a name
	MaxSegment = 80  // bytes between two slashes of it
	MaxMeta    = 1024
)

var containerPart = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Check returns an error of kind BadRequest if the container cannot be one.
func (c Container) Check() error {
	if !containerPart.MatchString(c.Name) || c.Project != "" && !containerPart.MatchString(c.Project) {
		return trove.Errorf(trove.KindBadRequest, "%q of project %q cannot be a container: 1 to 64 letters, digits, - and _ are allowed.", c.Name, c.Project)
	}
	return nil
}

// CheckName returns an error of kind BadRequest if an object cannot have the name: it is UTF-8 of at most MaxName bytes without control
// characters and backslashes, in segments divided by single slashes, none of them empty, longer than MaxSegment, "." or "..".
func CheckName(name string) error {
	if why := badName(name); why != "" {
		return trove.Errorf(trove.KindBadRequest, "%q cannot be the name of an object: %s.", cut(name), why)
	}
	return nil
}

func badName(name string) string {
	switch {
	case name == "":
		return "it is empty"
	case len(name) > MaxName:
		return "it is too long"
	case !utf8.ValidString(name):
		return "it is not UTF-8"
	case strings.ContainsFunc(name, func(r rune) bool { return unicode.IsControl(r) || r == '\\' }):
		return "it has a character that is not allowed"
	}
	for segment := range strings.SplitSeq(name, "/") {
		switch {
		case segment == "":
			return "a part of it is empty"
		case segment == "." || segment == "..":
			return "a part of it is . or .."
		case len(segment) > MaxSegment:
			return "a part of it is too long"
		}
	}
	return ""
}

// CheckPrefix returns an error of kind BadRequest unless the prefix is a name with a slash at its end, so that what begins with it cannot be
// confused with what only looks alike.
func CheckPrefix(prefix string) error {
	name, ok := strings.CutSuffix(prefix, "/")
	if !ok {
		return trove.Errorf(trove.KindBadRequest, "The prefix %q does not end with a slash.", cut(prefix))
	}
	return CheckName(name)
}

// CheckMeta returns an error of kind BadRequest if there is more metadata than every driver can hold.
func CheckMeta(meta map[string]string) error {
	size := 0
	for k, v := range meta {
		size += len(k) + len(v)
		if !containerPart.MatchString(k) || strings.ContainsFunc(v, unicode.IsControl) || !utf8.ValidString(v) {
			return trove.Errorf(trove.KindBadRequest, "The metadata %q cannot be stored.", cut(k))
		}
	}
	if size > MaxMeta {
		return trove.Errorf(trove.KindBadRequest, "The metadata has %d bytes; %d are allowed.", size, MaxMeta)
	}
	return nil
}

// cut keeps an error that quotes somebody's input short.
func cut(text string) string {
	const most = 100
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// NotFound is the error for an object that is not there.
func NotFound(name string) error {
	return trove.Errorf(trove.KindNotFound, "There is no object %q.", cut(name))
}

// Exists is the error for other bytes under a name that must not be replaced.
func Exists(name string) error {
	return trove.Errorf(trove.KindConflict, "The object %q is there, with other content.", cut(name))
}
