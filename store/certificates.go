package store

import (
	"context"
	"time"
)

// Authority is a certificate authority of the deployment that signs what databases show to their clients.
type Authority struct {
	ID          string // of the certificate: its fingerprint
	Certificate string // PEM
	Cross       string // PEM: the same key signed by the authority before, for clients that know only that one; "": there is none
	SealedKey   string
	Made        time.Time
	Ends        time.Time
}

// Certificate is what is known of the certificate that an instance's database got last.
type Certificate struct {
	InstanceID  string
	AuthorityID string // "": it has none yet
	Ends        time.Time
	TryAt       time.Time // it is left alone until then
}

// CertificateReader is what can be read of authorities and certificates.
type CertificateReader interface {
	// Authorities returns all, the newest first.
	Authorities(ctx context.Context) ([]Authority, error)
	// DueCertificates returns instances whose guest was seen, at most limit, that have no certificate, one of another authority or one that ends before the
	// time, and that are not left alone now.
	DueCertificates(ctx context.Context, authority string, ends, now time.Time, limit int) ([]string, error)
}

// CertificateWriter is what can be written of them.
type CertificateWriter interface {
	// InsertAuthority adds one. Conflict if there is a newer one than the one that the caller knows as the newest, "" for none.
	InsertAuthority(ctx context.Context, a Authority, newest string) error
	// DeleteAuthority removes one. Gone is fine.
	DeleteAuthority(ctx context.Context, id string) error
	// PutCertificate notes what an instance has; it goes with the instance.
	PutCertificate(ctx context.Context, c Certificate) error
	// PutOffCertificate leaves an instance alone until then; what it has stays noted.
	PutOffCertificate(ctx context.Context, instance string, until time.Time) error
	// ForgetCertificate makes an instance one that needs a new certificate now, because its addresses have changed.
	ForgetCertificate(ctx context.Context, instance string) error
}
