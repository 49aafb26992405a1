package main

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/natsbus"
	"github.com/trove-dbaas/trove/internal/imagelayout"
)

var _ = register(map[string]func(*attacker) error{
	"enrol-again": enrolAgain, "enrol-renew": renewForOthers, "enrol-paths": enrolPaths, "enrol-flood": enrolFlood, "use-identity": useIdentity,
})

// endpoint is the enrolment endpoint as the boot data names it.
type endpoint struct {
	url  string
	boot bus.BootData
	http *http.Client
}

func findEndpoint() (endpoint, error) {
	var e endpoint
	data, err := os.ReadFile(imagelayout.BootFile)
	if err != nil {
		return e, err
	}
	if err := json.Unmarshal(data, &e.boot); err != nil {
		return e, err
	}
	id, err := ownIdentity()
	if err != nil {
		return e, err
	}
	e.url = strings.TrimSuffix(e.boot.EnrolURLs[0], "/")
	e.http = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: id.roots(), MinVersion: tls.VersionTLS13}}}
	return e, nil
}

// do sends a request; an answer other than 200 is an error.
func (e endpoint) do(method, path string, body any) (string, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequest(method, e.url+path, bytes.NewReader(data))
	if err != nil {
		return "", err
	}
	resp, err := e.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", resp.Status, answer)
	}
	return string(answer), nil
}

func newKey() (nkeys.KeyPair, string, error) {
	key, err := nkeys.CreateUser()
	if err != nil {
		return nil, "", err
	}
	public, err := key.PublicKey()
	return key, public, err
}

// enrolAgain uses the token of the own boot data with new keys.
func enrolAgain(a *attacker) error {
	e, err := findEndpoint()
	if err != nil {
		return err
	}
	_, err = e.do(http.MethodGet, "/v1/nonce", nil)
	a.own("speak with the enrolment endpoint", err)
	for range 3 {
		_, public, err := newKey()
		if err != nil {
			return err
		}
		_, err = e.do(http.MethodPost, "/v1/enrol", natsbus.EnrolRequest{Token: e.boot.Token, PublicKey: public})
		a.try("enrol a second key with the used token", err)
	}
	_, public, err := newKey()
	if err != nil {
		return err
	}
	for _, token := range []string{"", "*", "' OR 1=1 --", strings.Repeat("A", 4000), e.boot.Token[:len(e.boot.Token)-1], a.in["neighbour"]} {
		_, err = e.do(http.MethodPost, "/v1/enrol", natsbus.EnrolRequest{Token: token, PublicKey: public})
		a.try(fmt.Sprintf("enrol with the token %.20q", token), err)
	}
	return nil
}

// renewal signs a request to renew.
func (e endpoint) renewal(instance, public string, key nkeys.KeyPair, nonce string) (natsbus.RenewRequest, error) {
	if nonce == "" {
		answer, err := e.do(http.MethodGet, "/v1/nonce", nil)
		if err != nil {
			return natsbus.RenewRequest{}, err
		}
		var n natsbus.Nonce
		if err := json.Unmarshal([]byte(answer), &n); err != nil {
			return natsbus.RenewRequest{}, err
		}
		nonce = n.Nonce
	}
	signature, err := key.Sign(natsbus.RenewText(instance, nonce))
	return natsbus.RenewRequest{
		Instance: instance, PublicKey: public, Nonce: nonce, Signature: base64.StdEncoding.EncodeToString(signature),
	}, err
}

// renewForOthers asks for credentials of the neighbour, and with false nonces.
func renewForOthers(a *attacker) error {
	e, err := findEndpoint()
	if err != nil {
		return err
	}
	id, err := ownIdentity()
	if err != nil {
		return err
	}
	key, err := id.key()
	if err != nil {
		return err
	}
	public, err := key.PublicKey()
	if err != nil {
		return err
	}
	good, err := e.renewal(id.instance, public, key, "")
	if err != nil {
		return err
	}
	_, err = e.do(http.MethodPost, "/v1/renew", good)
	a.own("renew the own credential", err)
	try := func(what, instance, public string, key nkeys.KeyPair, nonce string) error {
		r, err := e.renewal(instance, public, key, nonce)
		if err != nil {
			return err
		}
		_, err = e.do(http.MethodPost, "/v1/renew", r)
		a.try(what, err)
		return nil
	}
	stranger, strange, err := newKey()
	if err != nil {
		return err
	}
	for _, f := range []func() error{
		func() error {
			return try("renew the neighbour's credential for the own key", a.in["neighbour"], public, key, "")
		},
		func() error {
			return try("renew the neighbour's credential for a new key", a.in["neighbour"], strange, stranger, "")
		},
		func() error { return try("renew the own credential for a new key", id.instance, strange, stranger, "") },
		func() error {
			return try("renew the neighbour's credential for its key with the own signature", a.in["neighbour"], a.in["neighbour_key"], key, "")
		},
		func() error { return try("renew for all instances", "*", public, key, "") },
		func() error {
			return try("renew with an invented nonce", id.instance, public, key, base64.RawURLEncoding.EncodeToString(make([]byte, 40)))
		},
	} {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// enrolPaths asks the endpoint for what it does not have.
func enrolPaths(a *attacker) error {
	e, err := findEndpoint()
	if err != nil {
		return err
	}
	_, err = e.do(http.MethodGet, "/v1/nonce", nil)
	a.own("get a nonce", err)
	for _, path := range []string{
		"/", "/metrics", "/v1.0/", "/identity/v3", "/debug/pprof/", "/../keys/master.key", "/v1/%2e%2e/%2e%2e/keys/master.key", "//etc/passwd", "/v1/enrol/../../store.db",
	} {
		_, err := e.do(http.MethodGet, path, nil)
		a.try("GET "+path, err)
	}
	return nil
}

// enrolFlood asks as often as it can for 2 s.
func enrolFlood(a *attacker) error {
	e, err := findEndpoint()
	if err != nil {
		return err
	}
	_, public, err := newKey()
	if err != nil {
		return err
	}
	looked, refused := 0, 0
	for began := time.Now(); time.Since(began) < 2*time.Second; {
		_, err := e.do(http.MethodPost, "/v1/enrol", natsbus.EnrolRequest{Token: trove.NewID(), PublicKey: public})
		switch {
		case err == nil:
			return errors.New("a token that was made up was taken")
		case strings.HasPrefix(err.Error(), "403"):
			looked++
		default:
			refused++
		}
	}
	a.note("try a token", true, looked > 0, fmt.Sprint(looked, " tried"))
	a.note("try more than 30 tokens in 2 s", false, looked > 30, fmt.Sprint(looked, " tried, ", refused, " refused"))
	_, err = e.do(http.MethodGet, "/v1/nonce", nil)
	a.own("get a nonce after that, as others of the same address do", err)
	return nil
}

// useIdentity tries what a stolen identity is good for: to connect, and to renew.
func useIdentity(a *attacker) error {
	own, nc, err := join()
	if err != nil {
		return err
	}
	nc.Close()
	a.own("connect with the own identity", nil)
	stolen := identity{seed: []byte(a.in["seed"]), credential: own.credential, instance: a.in["instance"]}
	stolen.credential.JWT = a.in["jwt"]
	key, err := stolen.key()
	if err != nil {
		return err
	}
	public, err := key.PublicKey()
	if err != nil {
		return err
	}
	gone := func() error {
		nc, err := stolen.dial(stolen.credential.JWT, key)
		if err != nil {
			return err
		}
		defer nc.Close()
		// The broker looks the instance up after the connect: it may take a moment to cut.
		for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if !nc.IsConnected() {
				return fmt.Errorf("cut: %w", nc.LastError())
			}
		}
		return nil
	}
	a.try("stay connected with the identity", gone())
	e, err := findEndpoint()
	if err != nil {
		return err
	}
	r, err := e.renewal(stolen.instance, public, key, "")
	if err != nil {
		return err
	}
	_, err = e.do(http.MethodPost, "/v1/renew", r)
	a.try("renew it", err)
	return nil
}
