package api

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strings"

	"software.sslmate.com/src/go-pkcs12"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestapi"
)

// sslRefs are references to secrets of the caller, in place of a certificate and its key.
type sslRefs struct{ container, password string }

// refsOf reads them from a body.
func refsOf(want object, change guestapi.SetTLSArgs) (sslRefs, error) {
	refs := sslRefs{container: want.str("container_ref"), password: want.str("password_ref")}
	switch {
	case refs == sslRefs{}:
	case !want.wanted("enable"):
		return refs, bad("container_ref and password_ref are for enable only.")
	case refs.container == "":
		return refs, bad("password_ref is the password of what container_ref names, which is missing.")
	case change.Cert != "" || change.Key != "" || change.CA != "":
		return refs, bad("Either container_ref or certificate and private_key are expected.")
	}
	return refs, nil
}

// readRefs takes certificate and key from where the caller keeps them. It is asked for with his token alone.
func (s *server) readRefs(ctx context.Context, c *call, refs sslRefs, change *guestapi.SetTLSArgs) error {
	if refs.container == "" {
		return nil
	}
	if s.cfg.Vault == nil {
		return trove.Errorf(trove.KindNotImplemented,
			"There is no key manager that container_ref and password_ref could point into. Leave them out for a new certificate, or send certificate and private_key.")
	}
	read := func(ref string) (map[string]trove.Secret, error) {
		return s.cfg.Vault.Read(ctx, c.caller.Token, c.caller.ProjectID, ref)
	}
	parts, err := read(refs.container)
	if err != nil {
		return err
	}
	password := ""
	if refs.password != "" {
		secret, err := read(refs.password)
		if err != nil {
			return err
		}
		one, ok := secret[""]
		if !ok {
			return bad("password_ref names no secret.")
		}
		password = strings.TrimRight(one.Reveal(), "\r\n")
	}
	if bundle, ok := parts[""]; ok {
		return unpack([]byte(bundle.Reveal()), password, change)
	}
	if parts["private_key_passphrase"] != "" {
		return bad("The private key of the container is encrypted, which is not supported: store it as PKCS#12, or without a passphrase in the container.")
	}
	change.Cert, change.Key, change.CA = parts["certificate"].Reveal(), parts["private_key"].Reveal(), parts["intermediates"].Reveal()
	if change.Cert == "" || change.Key == "" {
		return bad("The container has no certificate or no private_key.")
	}
	return nil
}

// unpack reads PKCS#12, as it is or in base64, or PEM.
func unpack(data []byte, password string, change *guestapi.SetTLSArgs) error {
	if bytes.Contains(data, []byte("-----BEGIN ")) {
		return unpackPEM(data, change)
	}
	if raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(data)), "")); err == nil && len(raw) > 0 {
		data = raw
	}
	key, leaf, authorities, err := pkcs12.DecodeChain(data, password)
	if errors.Is(err, pkcs12.ErrIncorrectPassword) {
		return bad("The password of the PKCS#12 bundle that container_ref names is another one than password_ref says.")
	}
	if err != nil {
		return trove.Wrap(trove.KindBadRequest, err, "What container_ref names is no PKCS#12 bundle of a certificate with its key, and no PEM.")
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return trove.Wrap(trove.KindBadRequest, err, "The private key of the PKCS#12 bundle is of a kind that is not supported.")
	}
	change.Cert = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}))
	change.Key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	for _, each := range authorities {
		change.CA += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: each.Raw}))
	}
	return nil
}

// unpackPEM takes the first certificate with its key, and the others as authorities.
func unpackPEM(data []byte, change *guestapi.SetTLSArgs) error {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		text := string(pem.EncodeToMemory(block))
		switch {
		case block.Type == "CERTIFICATE" && change.Cert == "":
			change.Cert = text
		case block.Type == "CERTIFICATE":
			change.CA += text
		case strings.HasSuffix(block.Type, "PRIVATE KEY") && change.Key == "":
			change.Key = text
		}
	}
	if change.Cert == "" || change.Key == "" {
		return bad("What container_ref names has no certificate, or no private key.")
	}
	return nil
}
