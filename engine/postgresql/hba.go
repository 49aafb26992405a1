package postgresql

import (
	"strings"

	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
)

// The name of the map in pg_ident.conf by which the operating system's accounts become the agent's role.
const adminMap = "agent"

// ident says that root in the guest, or whoever runs this where that is not root, is the agent's role.
func ident(account string) string { return adminMap + " " + account + " " + adminName + "\n" }

// hba says who comes in. The agent comes through the local socket alone and nobody else does; clients come over TCP with a SCRAM password, in the manner that
// the mode of TLS asks for. closed lets no client in: before the first start has made what it shall make.
func hba(t tlsKept, closed bool) string {
	const all, method = "all", "scram-sha-256"
	lines := [][]string{
		{"local", all, adminName, "peer", "map=" + adminMap},
		{"local", all, all, "reject"},
		{"host", all, adminName, all, "reject"},
	}
	switch {
	case closed:
	case t.Mode == engine.TLSMutual:
		lines = append(lines, []string{"hostssl", all, all, all, method, "clientcert=verify-ca"})
	case t.Mode == engine.TLSEnforced:
		lines = append(lines, []string{"hostssl", all, all, all, method})
	default:
		lines = append(lines, []string{"host", all, all, all, method})
	}
	var text strings.Builder
	text.WriteString("# Written at each start of the server; changes here are lost.\n")
	for _, l := range append(lines, []string{"host", all, all, all, "reject"}) {
		text.WriteString(strings.Join(l, " ") + "\n")
	}
	return text.String()
}

// writeAccess writes both files for the server to read.
func (p place) writeAccess(t tlsKept, closed bool) error {
	account, err := agentAccount()
	if err != nil {
		return err
	}
	if err := guestfiles.Write(p.identFile(), []byte(ident(account)), 0o400, p.UID, p.GID); err != nil {
		return err
	}
	return guestfiles.Write(p.hbaFile(), []byte(hba(t, closed)), 0o400, p.UID, p.GID)
}
