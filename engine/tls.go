package engine

import "context"

// TLSSource is an engine whose TLS towards clients can be changed. It is optional.
type TLSSource interface {
	// TLS tells what was asked for last. It does not ask the server, which may be down.
	TLS(ctx context.Context, l Layout) (TLS, error)
	// SetTLS changes it, for the running server where that can be done and for later starts. restart says that the server takes up the change, or a part
	// of it, with its next start only. What cannot be used is BadRequest, and nothing changes.
	SetTLS(ctx context.Context, l Layout, c TLSChange) (restart bool, err error)
	// RollbackTLS brings back what the last SetTLS replaced. When there is nothing to go back to, as after another rollback, it is BadRequest.
	RollbackTLS(ctx context.Context, l Layout) (restart bool, err error)
}

// TLSMode is what is asked of clients, in Trove's words.
type TLSMode string

// The modes.
const (
	TLSBuiltin  TLSMode = "builtin"  // nobody chose anything: clients may use TLS
	TLSBasic    TLSMode = "basic"    // clients may use TLS
	TLSEnforced TLSMode = "enforced" // clients must use TLS
	TLSMutual   TLSMode = "mtls"     // clients must use TLS and show a certificate of the given authorities
)

// TLS is what there is.
type TLS struct {
	On   bool
	Mode TLSMode
	Cert []byte // PEM, the server's own certificate first; empty before the first start, and when TLS is off
}

// TLSChange is what shall be. Without a certificate the server gets a new one that is signed by itself.
type TLSChange struct {
	Off  bool
	Mode TLSMode // unless Off: TLSBasic, TLSEnforced or TLSMutual
	Cert []byte  // PEM: the certificate and, after it, those between it and its authority
	Key  []byte  // PEM
	CA   []byte  // PEM: authorities of clients; TLSMutual needs them
}
