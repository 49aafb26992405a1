package guestapi

import (
	"context"

	trove "github.com/trove-dbaas/trove"
)

// The short commands for TLS towards clients, which came after the first release.
const (
	CmdShowTLS     Command = "show-tls"     // → TLSState
	CmdSetTLS      Command = "set-tls"      // SetTLSArgs → TLSChanged
	CmdRollbackTLS Command = "rollback-tls" // → TLSChanged
)

// TLSState is TLS as it was asked for last.
type TLSState struct {
	On   bool   `json:"on"`
	Mode string `json:"mode"` // builtin, basic, enforced or mtls
	Cert string `json:"cert,omitempty"`
}

// SetTLSArgs say how TLS shall be; certificates and key are PEM. The key travels in clear, inside TLS, to this guest's subject only.
type SetTLSArgs struct {
	Off  bool   `json:"off,omitempty"`
	Mode string `json:"mode,omitempty"`
	Cert string `json:"cert,omitempty"`
	Key  string `json:"key,omitempty"`
	CA   string `json:"ca,omitempty"`
}

// TLSChanged says whether the engine has to be restarted for the change.
type TLSChanged struct {
	Restart bool `json:"restart,omitempty"`
}

// maxCert is how long the certificates that a guest shows may be, in bytes.
const maxCert = 64 << 10

// TLS tells how TLS towards clients is; NotImplemented if the engine has none that can be changed.
func (c *Client) TLS(ctx context.Context, instance string) (TLSState, error) {
	var s TLSState
	if err := c.short(ctx, instance, CmdShowTLS, nil, &s); err != nil {
		return TLSState{}, err
	}
	if !name(s.Mode) || len(s.Cert) > maxCert {
		return TLSState{}, trove.Errorf(trove.KindInternal, "The guest reported a state of TLS that is none.")
	}
	return s, nil
}

// SetTLS changes it. What the engine cannot use is BadRequest.
func (c *Client) SetTLS(ctx context.Context, instance string, args SetTLSArgs) (TLSChanged, error) {
	var done TLSChanged
	return done, c.short(ctx, instance, CmdSetTLS, args, &done)
}

// RollbackTLS brings back what the last change replaced; BadRequest when there is nothing to go back to.
func (c *Client) RollbackTLS(ctx context.Context, instance string) (TLSChanged, error) {
	var done TLSChanged
	return done, c.short(ctx, instance, CmdRollbackTLS, nil, &done)
}
