package api

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/engineca"
	"github.com/trove-dbaas/trove/store"
)

func sslOperations() []Operation {
	const path = "/instances/{instance}/ssl"
	return []Operation{
		{
			ID: "showSSL", Method: http.MethodGet, Path: path, Rule: "instance:show", Summary: "Show how TLS towards clients is, and the server's certificate.",
			Query:   []Query{{"include_certificate", "boolean", "the certificate itself too, as PEM, and the authorities that a client verifies it with if it is one of the service's"}},
			Success: http.StatusOK, Response: wire.SSLBody{}, handle: (*server).showSSL,
		},
		{
			ID: "changeSSL", Method: http.MethodPost, Path: path, Rule: "instance:update", Schema: "ssl-action.json",
			Summary: "Enable TLS (basic, enforced or mtls) with a given certificate or the one that the service makes, disable it, or take back the last change. " +
				"What needs a restart sets RESTART_REQUIRED.",
			Success: http.StatusOK, Response: wire.SSLChangedBody{}, handle: (*server).changeSSL,
		},
	}
}

func (s *server) showSSL(ctx context.Context, c *call) (any, error) {
	if c.instance.Stopped() {
		return nil, c.instance.CheckActionable(c.instance.BackingUp)
	}
	if c.instance.Guest.SeenAt.IsZero() {
		return nil, trove.Errorf(trove.KindUnprocessable, "Instance %s is not ready.", c.instance.ID)
	}
	with := c.req.URL.Query().Get("include_certificate")
	now, err := s.cfg.Guests.TLS(ctx, c.instance.ID)
	if err != nil {
		return nil, err
	}
	out := viewSSL(now)
	if now.On {
		v, err := s.cfg.Store.DatastoreVersion(ctx, c.instance.DatastoreVersionID)
		if err != nil && !trove.IsNotFound(err) {
			return nil, fmt.Errorf("read the datastore version: %w", err)
		}
		out.TLSPort = v.Capabilities.TLSPort
		if out.Certificate, err = viewCertificate(now.Cert); err != nil {
			return nil, err
		}
		if with == "1" || with == "true" || with == "True" {
			out.Certificate.Payload = now.Cert
			if out.Certificate.Authorities, err = s.authoritiesOf(ctx, now.Cert); err != nil {
				return nil, err
			}
		}
	}
	return &wire.SSLBody{SSL: out}, nil
}

func viewSSL(now guestapi.TLSState) wire.SSL {
	out := wire.SSL{Status: "off", Mode: now.Mode}
	if now.On {
		out.Status = "on"
	}
	return out
}

func viewCertificate(text string) (*wire.SSLCertificate, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, trove.Errorf(trove.KindInternal, "the guest shows a certificate that is no PEM")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read the guest's certificate: %w", err)
	}
	out := wire.SSLCertificate{CN: leaf.Subject.CommonName, ExpireAt: wire.Time(leaf.NotAfter), SAN: leaf.DNSNames}
	for _, ip := range leaf.IPAddresses {
		out.SAN = append(out.SAN, ip.String())
	}
	return &out, nil
}

// authoritiesOf returns what a client verifies the certificate with, if one of the service's own authorities made it; otherwise "". That it has ended is no
// reason to hide who made it.
func (s *server) authoritiesOf(ctx context.Context, chain string) (string, error) {
	bundle, err := engineca.Bundle(ctx, s.cfg.Store, s.cfg.Clock.Now())
	if err != nil || bundle == "" {
		return "", err
	}
	block, rest := pem.Decode([]byte(chain))
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", fmt.Errorf("read the guest's certificate: %w", err)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(bundle))
	between.AppendCertsFromPEM(rest)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: leaf.NotBefore.Add(time.Hour)}); err != nil {
		return "", nil //nolint:nilerr // a user gave it, or the server made it itself
	}
	return bundle, nil
}

// sslChange is what a body asks for, checked.
func sslChange(want object) (change guestapi.SetTLSArgs, rollback bool, err error) {
	enable, disable, rollback := want.wanted("enable"), want.wanted("disable"), want.wanted("rollback")
	asked := 0
	for _, one := range []bool{enable, disable, rollback} {
		if one {
			asked++
		}
	}
	change = guestapi.SetTLSArgs{
		Off: disable, Mode: want.str("mode"), Cert: want.str("certificate"), Key: want.str("private_key"), CA: want.str("ca_certificates"),
	}
	given := change.Mode != "" || change.Cert != "" || change.Key != "" || change.CA != ""
	switch {
	case asked != 1:
		return change, rollback, bad("Exactly one of enable, disable and rollback is expected.")
	case !enable && given:
		return change, rollback, bad("Mode and certificates are for enable only.")
	case enable && change.Mode == "":
		change.Mode = "basic"
	}
	if enable && change.Mode != "basic" && change.Mode != "enforced" && change.Mode != "mtls" {
		return change, rollback, bad("Invalid SSL mode '%s'. Must be one of ['basic', 'enforced', 'mtls']", change.Mode)
	}
	return change, rollback, nil
}

func (s *server) changeSSL(ctx context.Context, c *call) (any, error) {
	change, rollback, err := sslChange(c.body.obj("ssl"))
	if err != nil {
		return nil, err
	}
	refs, err := refsOf(c.body.obj("ssl"), change)
	if err != nil {
		return nil, err
	}
	if c.instance.ReplicaOf != "" && !rollback {
		return nil, bad("Instance %s is a replica: change its source, and the replicas follow.", c.instance.ID)
	}
	if err := c.instance.CheckActionable(c.instance.BackingUp); err != nil {
		return nil, err
	}
	if err := s.checkRequiredTLS(ctx, c, change, rollback); err != nil {
		return nil, err
	}
	if err := s.readRefs(ctx, c, refs, &change); err != nil {
		return nil, err
	}
	var done guestapi.TLSChanged
	if rollback {
		done, err = s.cfg.Guests.RollbackTLS(ctx, c.instance.ID)
	} else {
		done, err = s.cfg.Guests.SetTLS(ctx, c.instance.ID, change)
	}
	if err != nil {
		return nil, err
	}
	s.cfg.Log.InfoContext(ctx, "TLS changed", "instance", c.instance.ID, "mode", change.Mode, "off", change.Off, "rollback", rollback)
	if done.Restart {
		if err := s.requireRestart(ctx, c); err != nil {
			return nil, err
		}
	}
	out := wire.SSLChanged{RestartRequired: done.Restart}
	if rollback {
		now, err := s.cfg.Guests.TLS(ctx, c.instance.ID)
		if err != nil {
			return nil, err
		}
		shown := viewSSL(now)
		out.Status, out.Mode = shown.Status, shown.Mode
	}
	return &wire.SSLChangedBody{SSL: out}, nil
}

// checkRequiredTLS refuses what would let clients in without TLS where the datastore version requires it. What a rollback brings back is not known here.
func (s *server) checkRequiredTLS(ctx context.Context, c *call, change guestapi.SetTLSArgs, rollback bool) error {
	v, err := s.cfg.Store.DatastoreVersion(ctx, c.instance.DatastoreVersionID)
	if err != nil && !trove.IsNotFound(err) {
		return fmt.Errorf("read the datastore version: %w", err)
	}
	switch {
	case !v.RequireTLS:
		return nil
	case rollback:
		return bad("Datastore version %s requires TLS, which a rollback could take away. Enable it with what you want instead.", v.Name)
	case change.Off || change.Mode != "enforced" && change.Mode != "mtls":
		return bad("Datastore version %s requires TLS: the modes are enforced and mtls.", v.Name)
	}
	return nil
}

// requireRestart shows RESTART_REQUIRED until a restart, unless something else has begun meanwhile, which shows its own.
func (s *server) requireRestart(ctx context.Context, c *call) error {
	err := s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		return tx.UpdateInstance(ctx, c.instance.ID, s.cfg.Clock.Now(), func(i *trove.Instance) error {
			if i.Task == trove.TaskNone {
				i.Task = trove.TaskRestartRequired
			}
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("note that a restart is needed: %w", err)
	}
	return nil
}
