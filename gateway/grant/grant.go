// Package grant makes and reads the tokens with which guests use the object gateway.
//
// A token says for which guest, by its public key, for which container, method and prefix, how much and until when. It is signed with HMAC-SHA-256
// under a key of the deployment; who has the key is a controller. A token alone is worth nothing: the gateway wants a signature of the guest that it was
// made for. Values may be used from several goroutines.
package grant

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/guestapi"
)

// MaxLife is how long a grant can be good at most. An operation that takes longer asks for another.
const MaxLife = 24 * time.Hour

// The errors of Verify, all of kind Unauthorized.
var (
	ErrToken   = errors.New("the token was not made by this deployment")
	ErrExpired = errors.New("the grant has expired")
)

// Grant is what a token says.
type Grant struct {
	Instance  string                // whose guest may use it
	Key       string                // that guest's public key
	Container backupstore.Container // where
	Method    string                // GET or PUT
	Prefix    string                // of names, with a slash at its end
	MaxBytes  int64                 // that may lie under the prefix, with PUT
	Expires   time.Time             // whole seconds
	Operation string                // durable operation that it is for: the grant ends with it; "": a call of the API, it ends by its time alone
}

// Check returns an error of kind BadRequest if the grant gives something that none may give.
func (g Grant) Check() error {
	switch {
	case !trove.ValidID(g.Instance):
		return trove.Errorf(trove.KindBadRequest, "A grant is for the guest of an instance.")
	case g.Key == "":
		return trove.Errorf(trove.KindBadRequest, "A grant is for one guest's key.")
	case g.Method != http.MethodGet && g.Method != http.MethodPut:
		return trove.Errorf(trove.KindBadRequest, "A grant is for GET or PUT, not %q.", g.Method)
	case g.Method == http.MethodPut && g.MaxBytes <= 0:
		return trove.Errorf(trove.KindBadRequest, "A grant to write has a limit.")
	}
	name, ok := strings.CutSuffix(g.Prefix, "/")
	if !ok {
		return trove.Errorf(trove.KindBadRequest, "The prefix of a grant ends with a slash.")
	}
	return errors.Join(g.Container.Check(), backupstore.CheckPrefix(g.Prefix), guestapi.CheckObjectName(name))
}

// Covers says whether an object's name is within the grant.
func (g Grant) Covers(name string) bool {
	return len(name) > len(g.Prefix) && strings.HasPrefix(name, g.Prefix)
}

// claims is a grant inside a token.
type claims struct {
	Instance  string `json:"i"`
	Key       string `json:"k"`
	Project   string `json:"p,omitempty"`
	Container string `json:"c"`
	Method    string `json:"m"`
	Prefix    string `json:"o"`
	MaxBytes  int64  `json:"b,omitempty"`
	Expires   int64  `json:"e"`
	Operation string `json:"w,omitempty"`
}

const (
	version  = "tg1"
	maxToken = 4096
)

var encoding = base64.RawURLEncoding

// Sign makes the token of a grant.
func (k *Keyring) Sign(g Grant) (trove.Secret, error) {
	if err := g.Check(); err != nil {
		return "", err
	}
	if left := g.Expires.Sub(k.clock.Now()); left <= 0 || left > MaxLife {
		return "", trove.Errorf(trove.KindBadRequest, "A grant is good for at most %s, this one for %s.", MaxLife, left)
	}
	data, err := json.Marshal(claims{
		Instance: g.Instance, Key: g.Key, Project: g.Container.Project, Container: g.Container.Name, Method: g.Method, Prefix: g.Prefix,
		MaxBytes: g.MaxBytes, Expires: g.Expires.Unix(), Operation: g.Operation,
	})
	if err != nil {
		return "", fmt.Errorf("make a grant: %w", err)
	}
	key, err := k.newest()
	if err != nil {
		return "", fmt.Errorf("make a grant: %w", err)
	}
	signed := version + "." + key.ID + "." + encoding.EncodeToString(data)
	return trove.Secret(signed + "." + encoding.EncodeToString(key.mac(signed))), nil
}

// Verify reads a token. An error is one of ErrToken and ErrExpired, of kind Unauthorized; with ErrExpired the grant comes too, for the log.
func (k *Keyring) Verify(token string) (Grant, error) {
	refused := trove.Wrap(trove.KindUnauthorized, ErrToken, "The grant is not valid.")
	parts := strings.Split(token, ".")
	if len(token) > maxToken || len(parts) != 4 || parts[0] != version {
		return Grant{}, refused
	}
	key, ok := k.find(parts[1])
	mac, err := encoding.DecodeString(parts[3])
	if !ok || err != nil || !hmac.Equal(mac, key.mac(strings.Join(parts[:3], "."))) {
		return Grant{}, refused
	}
	var c claims
	data, err := encoding.DecodeString(parts[2])
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err != nil {
		return Grant{}, refused
	}
	g := Grant{
		Instance: c.Instance, Key: c.Key, Container: backupstore.Container{Project: c.Project, Name: c.Container}, Method: c.Method, Prefix: c.Prefix,
		MaxBytes: c.MaxBytes, Expires: time.Unix(c.Expires, 0).UTC(), Operation: c.Operation,
	}
	if g.Check() != nil {
		return Grant{}, refused
	}
	if !k.clock.Now().Before(g.Expires) {
		return g, trove.Wrap(trove.KindUnauthorized, ErrExpired, "The grant has expired.")
	}
	return g, nil
}

func (k key) mac(signed string) []byte {
	h := hmac.New(sha256.New, k.Secret)
	h.Write([]byte("trove object grant\n" + signed))
	return h.Sum(nil)
}
