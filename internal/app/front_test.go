package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/internal/edge"
)

// borrowedPair writes the certificate of httptest's servers, which is for 127.0.0.1, and returns who trusts it.
func borrowedPair(t *testing.T, cert, key string) *x509.CertPool {
	t.Helper()
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	pair := s.TLS.Certificates[0]
	pkcs8, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return pool
}

// The API listens on all addresses that are configured, with TLS where there is a certificate, and believes its proxies.
func TestListenersOfTheAPI(t *testing.T) {
	cfg := config.Default()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pool := borrowedPair(t, cert, key)
	cfg.API.Listen, cfg.API.TrustedProxies, cfg.API.CORS.AllowedOrigin = "127.0.0.1:0", []string{"127.0.0.1"}, []string{"https://horizon.example"}
	cfg.API.Listeners = []config.Listener{{Listen: "127.0.0.1:0", TLSCertificate: cert, TLSKey: key}}
	c := &controllers{cfg: cfg, runs: Components{API: true}, clock: clock.System{}, log: slog.New(slog.DiscardHandler)}
	t.Cleanup(func() { _ = c.close() })
	if err := c.listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	var err error
	c.handler, err = front(cfg.API, c.clock, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f := edge.Of(r)
		_, _ = fmt.Fprint(w, f.Base(), " ", f.Client)
	}))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	url, stop := c.serveHTTP(func(_ string, f func(context.Context) error) {
		wg.Go(func() {
			if err := f(t.Context()); err != nil {
				t.Error(err)
			}
		})
	})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}}
	secure := "https://" + c.apiListeners[1].Addr().String()
	for _, base := range []string{url, secure} {
		for forwarded, want := range map[string]string{"": base + " 127.0.0.1", "198.51.100.7": base + " 198.51.100.7"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-Forwarded-For", forwarded)
			req.Header.Set("Origin", "https://horizon.example")
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || string(body) != want || resp.Header.Get("Access-Control-Allow-Origin") != "https://horizon.example" {
				t.Errorf("got %q %v %v, want %q", body, resp.Header, err, want)
			}
			if base == secure && resp.ProtoMajor != 2 {
				t.Errorf("%s was spoken over TLS", resp.Proto)
			}
		}
	}
	client.CloseIdleConnections()
	stop(t.Context())
	wg.Wait()
}

func TestCertificateThatIsNotThereIsNamed(t *testing.T) {
	cfg := config.Default()
	cfg.API.Listen, cfg.API.TLSCertificate, cfg.API.TLSKey = "127.0.0.1:0", "/nowhere/cert.pem", "/nowhere/key.pem"
	c := &controllers{cfg: cfg, runs: Components{API: true}, clock: clock.System{}, log: slog.New(slog.DiscardHandler)}
	defer func() { _ = c.close() }()
	if err := c.listen(t.Context()); err == nil {
		t.Error("it listens without its certificate")
	}
}
