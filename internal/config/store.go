package config

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// Store configures where the state of the control plane is.
type Store struct {
	URL          string        `yaml:"url" doc:"Database server that keeps the state: postgresql://user@host:port/database or mariadb://user@host:port/database. Several hosts are separated by commas; ?socket=PATH stands in place of hosts. It never has the password. Empty: SQLite in the state directory."`
	PasswordFile string        `yaml:"password_file" doc:"File with the password of that user, readable for its owner only; it is read for each new connection. Empty: the credential store-password that systemd hands over, or no password."`
	TLS          string        `yaml:"tls" doc:"How the connection to the server is encrypted: verify (its certificate must be for the host), require (any certificate), off. Empty: off on this machine, else verify."`
	TLSCA        string        `yaml:"tls_ca" doc:"File with the certificates that sign the server's; empty: those of the system."`
	TLSCert      string        `yaml:"tls_cert" doc:"File with a certificate of our own for the server; empty: none."`
	TLSKey       string        `yaml:"tls_key" doc:"File with its key."`
	Connections  int           `yaml:"connections" doc:"Connections of each process that write, and as many that read."`
	Wait         time.Duration `yaml:"wait" doc:"How long a request waits for a server that is away before it is refused."`
}

func (s Store) check() error {
	if s.URL == "" {
		return nil
	}
	scheme, rest, _ := strings.Cut(s.URL, "://")
	if scheme != "postgresql" && scheme != "mariadb" {
		return fmt.Errorf("store.url: it does not begin with postgresql:// or mariadb://")
	}
	// The value is not shown: what is wrong with it may be that there is a password in it.
	if user, _, found := strings.Cut(rest, "@"); found && strings.Contains(user, ":") {
		return fmt.Errorf("store.url: it holds a password: put that into a file that store.password_file names")
	}
	for name, path := range map[string]string{
		"store.password_file": s.PasswordFile, "store.tls_ca": s.TLSCA, "store.tls_cert": s.TLSCert, "store.tls_key": s.TLSKey,
	} {
		if path != "" && !filepath.IsAbs(path) {
			return fmt.Errorf("%s: %q is not an absolute path", name, path)
		}
	}
	switch {
	case s.TLS != "" && s.TLS != "verify" && s.TLS != "require" && s.TLS != "off":
		return fmt.Errorf("store.tls: %q is none of verify, require, off", s.TLS)
	case (s.TLSCert == "") != (s.TLSKey == ""):
		return fmt.Errorf("store.tls_key: a certificate and its key are given together")
	case s.Connections < 2 || s.Connections > 1000:
		return fmt.Errorf("store.connections: %d is not from 2 to 1000", s.Connections)
	case s.Wait <= 0:
		return fmt.Errorf("store.wait: %s is not more than 0", s.Wait)
	}
	return nil
}
