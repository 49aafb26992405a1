package server_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus/natsbus"
)

func TestTheEndpointLimitsWhatStrangersCanDo(t *testing.T) {
	s := start(t)
	_, public := userKey(t)
	token := s.boot(t, trove.NewID()).Token
	for name, tt := range map[string]struct {
		path string
		body any
		want int
	}{
		"large body":     {"/v1/enrol", natsbus.EnrolRequest{Token: token + strings.Repeat("x", 20<<10), PublicKey: public}, 400},
		"no JSON":        {"/v1/enrol", []byte("{"), 400},
		"no key":         {"/v1/enrol", natsbus.EnrolRequest{Token: token, PublicKey: "x"}, 400},
		"no token":       {"/v1/enrol", natsbus.EnrolRequest{PublicKey: public}, 400},
		"unknown token":  {"/v1/enrol", natsbus.EnrolRequest{Token: "x", PublicKey: public}, 403},
		"wrong method":   {"/v1/enrol", nil, 405},
		"unknown path":   {"/v1/other", nil, 404},
		"renew no nonce": {"/v1/renew", natsbus.RenewRequest{Instance: trove.NewID(), PublicKey: public, Nonce: "x"}, 400},
	} {
		if status, answer := s.call(t, tt.path, tt.body); status != tt.want {
			t.Errorf("%s: %d %s, want %d", name, status, answer, tt.want)
		}
	}
	eventually(t, "the limit of requests", func() bool {
		status, _ := s.call(t, "/v1/enrol", natsbus.EnrolRequest{Token: "x", PublicKey: public})
		return status == http.StatusTooManyRequests
	})
}

// TestAFloodKeepsTheGuestsBehindTheSameAddressOut is about a router that gives all guests of a cloud one address: one of them asks without end.
func TestAFloodKeepsTheGuestsBehindTheSameAddressOut(t *testing.T) {
	s := start(t)
	old := trove.NewID()
	v := s.steal(t, s.enrolled(t, old), old)
	thief, public := userKey(t)
	flood := func() {
		t.Helper()
		refused := 0
		eventually(t, "that strangers are refused", func() bool {
			if status, _ := s.call(t, "/v1/enrol", natsbus.EnrolRequest{Token: "x", PublicKey: public}); status == http.StatusTooManyRequests {
				refused++
			}
			return refused == 5
		})
	}
	renewal := func(key nkeys.KeyPair, public string) natsbus.RenewRequest {
		t.Helper()
		var n natsbus.Nonce
		if status, answer := s.call(t, "/v1/nonce", nil); json.Unmarshal(answer, &n) != nil || n.Nonce == "" {
			t.Fatalf("a nonce: %d %s", status, answer)
		}
		signature, err := key.Sign(natsbus.RenewText(old, n.Nonce))
		if err != nil {
			t.Fatal(err)
		}
		return natsbus.RenewRequest{Instance: old, PublicKey: public, Nonce: n.Nonce, Signature: base64.StdEncoding.EncodeToString(signature)}
	}
	flood()
	_, mine := userKey(t)
	token := s.boot(t, trove.NewID()).Token
	if status, answer := s.call(t, "/v1/enrol", natsbus.EnrolRequest{Token: token, PublicKey: mine}); status != http.StatusOK {
		t.Errorf("a guest that is new: %d %s", status, answer)
	}
	flood()
	if status, answer := s.call(t, "/v1/renew", renewal(v.key, v.public(t))); status != http.StatusOK {
		t.Errorf("a guest that renews: %d %s", status, answer)
	}
	eventually(t, "that a renewal with another key is refused for the flood", func() bool {
		status, _ := s.call(t, "/v1/renew", renewal(thief, public))
		return status == http.StatusTooManyRequests
	})
	eventually(t, "that who is known has a limit too", func() bool {
		status, _ := s.call(t, "/v1/enrol", natsbus.EnrolRequest{Token: token, PublicKey: public})
		return status == http.StatusTooManyRequests
	})
}
