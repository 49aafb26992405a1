package engine

import "context"

// Certified is an engine that takes certificates which the service made for it. It is optional.
type Certified interface {
	// UseCertificate makes this what the server shows to its clients unless a user gave a certificate with SetTLS: at once in a running server, without a
	// restart and without ending a connection, and at later starts. cert is PEM, the server's own first. It is called after Prepare, which may have been
	// given one too, and may be repeated. BadRequest if the two do not fit. A server that is down is no error.
	UseCertificate(ctx context.Context, l Layout, cert, key []byte) error
}
