package edge

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/trove-dbaas/trove/internal/clock"
)

// look is how often the files of a certificate are looked at, at most.
const look = time.Second

// Certificate is a pair of PEM files that is read again when one of them changes. A pair that does not fit (it is being replaced, say) leaves the one
// before in use.
type Certificate struct {
	cert, key string
	clock     clock.Clock
	log       *slog.Logger

	mu     sync.Mutex
	pair   *tls.Certificate
	stamp  [2]stamp
	looked time.Time
}

// stamp is what tells that a file was replaced.
type stamp struct {
	at   time.Time
	size int64
}

// OpenCertificate reads the pair: the certificate with those that signed it, then the key.
func OpenCertificate(cert, key string, clk clock.Clock, log *slog.Logger) (*Certificate, error) {
	c := &Certificate{cert: cert, key: key, clock: clk, log: log, looked: clk.Now()}
	if err := c.read(); err != nil {
		return nil, err
	}
	return c, nil
}

// Config returns the configuration of a server: TLS 1.2 and later, with the pair as it is at each handshake.
func (c *Certificate) Config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current(), nil },
	}
}

func (c *Certificate) current() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.Now()
	if now.Sub(c.looked) < look {
		return c.pair
	}
	c.looked = now
	if stamps, err := c.stamps(); err != nil || stamps == c.stamp {
		return c.pair
	}
	if err := c.read(); err != nil {
		c.log.Warn("certificate was changed and cannot be used; the one before stays", "file", c.cert, "err", err)
		return c.pair
	}
	c.log.Info("certificate was read anew", "file", c.cert)
	return c.pair
}

// read reads the pair. The stamps are taken first: a file that changes meanwhile is read again.
func (c *Certificate) read() error {
	stamps, err := c.stamps()
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	c.stamp = stamps // one that is wrong is not read, and complained about, with every handshake
	if err != nil {
		return fmt.Errorf("read the certificate %s with the key %s: %w", c.cert, c.key, err)
	}
	c.pair = &pair
	return nil
}

func (c *Certificate) stamps() (all [2]stamp, err error) {
	for n, path := range []string{c.cert, c.key} {
		info, err := os.Stat(path)
		if err != nil {
			return all, fmt.Errorf("look at the certificate: %w", err)
		}
		all[n] = stamp{info.ModTime(), info.Size()}
	}
	return all, nil
}
