package attacks_test

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/nats-io/nkeys"

	"github.com/trove-dbaas/trove/bus"
)

func enrolment(outcome string) string {
	return metric("trove_bus_enrolment_requests_total", "outcome", outcome)
}

// stolen is a guest's identity, read from its volume.
func (a *attack) stolen(instance string) (seed string, c bus.Credential) {
	a.t.Helper()
	dir := filepath.Join(a.root(instance), "data", "trove", "identity")
	if err := json.Unmarshal([]byte(readFile(a.t, filepath.Join(dir, "credential.json"))), &c); err != nil {
		a.t.Fatal(err)
	}
	return readFile(a.t, filepath.Join(dir, "guest.nk")), c
}

func TestReuseTheEnrolmentToken(t *testing.T) {
	a := begin(t)
	a.inside("enrol-again", a.to())
	a.counted(enrolment("token_reused"), 3)
	a.counted(enrolment("unknown_token"), 4)
	a.logged("alarm: an enrolment token was used a second time")
	a.logged("enrolment with an unknown token refused")
}

func TestRenewTheCredentialOfANeighbour(t *testing.T) {
	a := begin(t)
	in := a.to()
	seed, _ := a.stolen(a.neighbour.ID)
	key, err := nkeys.FromSeed([]byte(seed))
	if err != nil {
		t.Fatal(err)
	}
	if in["neighbour_key"], err = key.PublicKey(); err != nil { // it is no secret
		t.Fatal(err)
	}
	a.insideOf(a.fresh("renew"), "enrol-renew", in)
	a.counted(enrolment("renewal_refused"), 4)
	a.logged("renewal refused", a.neighbour.ID)
}

func TestAskTheEnrolmentEndpointForOtherThings(t *testing.T) {
	a := begin(t)
	a.insideOf(a.fresh("paths"), "enrol-paths", a.to())
}

func TestFloodTheEnrolmentEndpoint(t *testing.T) {
	a := begin(t)
	a.insideOf(a.fresh("flood"), "enrol-flood", a.to())
	a.fresh("enrols-meanwhile") // another address is not concerned
	a.logged("enrolment endpoint was asked too often")
	a.counted(enrolment("rate_limited"), 1)
}

// A guest's identity was copied before the instance was deleted.
func TestUseTheIdentityOfADeletedInstance(t *testing.T) {
	a := begin(t)
	i := a.CreateKept("deleted")
	seed, c := a.stolen(i.ID)
	a.Remove(i.ID)
	a.insideOf(a.fresh("thief"), "use-identity", map[string]string{"seed": seed, "jwt": c.JWT, "instance": i.ID})
	a.counted(metric("trove_bus_kicks_total", "reason", "instance gone"), 1)
	a.counted(enrolment("renewal_refused"), 1)
	a.logged("renewal refused", i.ID)
}

// A guest that floods the bus again and again is revoked. It has its key, its credential and its token still.
func TestComeBackAfterRevocation(t *testing.T) {
	a := begin(t)
	guest := a.fresh("revoked")
	for range 3 {
		a.insideOf(guest, "bus-flood", a.to())
		// Its agent comes back after a cut, as long as it may.
	}
	a.logged("its key is revoked", guest)
	a.insideOf(guest, "revoked", a.to())
	a.counted(enrolment("renewal_refused"), 1)
	a.counted(refused("identity"), 1)
	a.counted(enrolment("token_reused"), 1)
}
