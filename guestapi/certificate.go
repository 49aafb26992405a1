package guestapi

import (
	"context"

	trove "github.com/trove-dbaas/trove"
)

// The short commands for the certificate that the service makes for a database, which came after the first release. The key is made in the guest
// and stays there.
const (
	CmdRequestCertificate Command = "request-certificate" // → CertificateRequest
	CmdUseCertificate     Command = "use-certificate"     // CertificateArgs
)

// CertificateRequest asks for a certificate for the guest's next key.
type CertificateRequest struct {
	CSR string `json:"csr"` // PEM
}

// CertificateArgs is a certificate for a key that the guest asked for; PEM, with those between it and its authority.
type CertificateArgs struct {
	Certificate string `json:"certificate"`
}

// RequestCertificate makes the guest have a key for its next certificate and returns its request. The same key until a certificate for it was given.
// NotImplemented if the engine takes none, or the agent is older than the command.
func (c *Client) RequestCertificate(ctx context.Context, instance string) (CertificateRequest, error) {
	var r CertificateRequest
	if err := c.short(ctx, instance, CmdRequestCertificate, nil, &r); err != nil {
		return CertificateRequest{}, err
	}
	if r.CSR == "" || len(r.CSR) > maxCert {
		return CertificateRequest{}, trove.Errorf(trove.KindInternal, "The guest's request for a certificate is none.")
	}
	return r, nil
}

// UseCertificate gives the database its certificate; connections go on. BadRequest if it is not for the key that was asked for.
func (c *Client) UseCertificate(ctx context.Context, instance string, args CertificateArgs) error {
	return c.short(ctx, instance, CmdUseCertificate, args, nil)
}
