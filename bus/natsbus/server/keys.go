package server

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/keyfile"
)

// keys are the nkeys of the deployment, made once: all brokers and controllers of it share them. Whoever has them can be any guest.
type keys struct {
	operator, operatorSigner nkeys.KeyPair
	system, systemSigner     nkeys.KeyPair
	account                  nkeys.KeyPair
	guestSigner              nkeys.KeyPair
	controllerSigner         nkeys.KeyPair
}

func (k *keys) slots() map[string]*nkeys.KeyPair {
	return map[string]*nkeys.KeyPair{
		"operator": &k.operator, "operator_signer": &k.operatorSigner,
		"system": &k.system, "system_signer": &k.systemSigner,
		"account": &k.account, "guest_signer": &k.guestSigner, "controller_signer": &k.controllerSigner,
	}
}

// keysName is what the keys are kept under, JSON.
const keysName = "bus.json"

// loadKeys reads the keys, made with the first start.
func loadKeys(ctx context.Context, kept keyfile.Keeper) (*keys, error) {
	data, err := kept.LoadOrMake(ctx, keysName, makeKeys)
	if err != nil {
		return nil, fmt.Errorf("keys of the bus: %w", err)
	}
	var seeds map[string]string
	if err := json.Unmarshal(data, &seeds); err != nil {
		return nil, fmt.Errorf("keys of the bus: %w", trove.Permanent(err))
	}
	var k keys
	for name, slot := range k.slots() {
		if *slot, err = nkeys.FromSeed([]byte(seeds[name])); err != nil {
			return nil, fmt.Errorf("keys of the bus: %s: %w", name, trove.Permanent(err))
		}
	}
	return &k, nil
}

// RenewKeys makes new keys for the deployment. What was signed with the old ones is worth nothing at brokers that start afterwards: for after a theft.
func RenewKeys(ctx context.Context, kept keyfile.Keeper) error {
	err := kept.Replace(ctx, keysName, func([]byte) ([]byte, error) { return makeKeys() })
	if err != nil {
		return fmt.Errorf("keys of the bus: %w", err)
	}
	return nil
}

func makeKeys() ([]byte, error) {
	seeds := map[string]string{}
	for name := range (&keys{}).slots() {
		create := nkeys.CreateAccount
		if name == "operator" || name == "operator_signer" {
			create = nkeys.CreateOperator
		}
		pair, err := create()
		if err != nil {
			return nil, err
		}
		seed, err := pair.Seed()
		if err != nil {
			return nil, err
		}
		seeds[name] = string(seed)
	}
	return json.Marshal(seeds)
}

// public returns the public key. A pair that came from a seed always has one.
func public(pair nkeys.KeyPair) string {
	s, err := pair.PublicKey()
	if err != nil {
		return ""
	}
	return s
}

// controller makes the identity of a controller's connection. The zero time is no expiry.
func (k *keys) controller(name, publicKey string, expires time.Time) (string, error) {
	uc := jwt.NewUserClaims(publicKey)
	uc.Name, uc.IssuerAccount = name, public(k.account)
	if !expires.IsZero() {
		uc.Expires = expires.Unix()
	}
	uc.SetScoped(true)
	return uc.Encode(k.controllerSigner)
}
