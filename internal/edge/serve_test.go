package edge_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/edge"
)

// writePair makes a certificate of the name and puts it and its key in place.
func writePair(t *testing.T, cert, key, name string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// serve runs a server on a free port of the loopback and returns its address.
func serve(t *testing.T, h http.Handler, cfg *tls.Config) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if cfg != nil {
		l = tls.NewListener(l, cfg)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	done := make(chan struct{})
	go func() { _ = s.Serve(l); close(done) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	return address
}

// handshake connects and returns the name in the certificate, "" if there is no connection, and the protocol.
func handshake(t *testing.T, address string, version uint16) (name, protocol string) {
	t.Helper()
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: version, NextProtos: []string{"h2"}}}
	c, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		return "", ""
	}
	defer c.Close()
	state := c.(*tls.Conn).ConnectionState()
	return state.PeerCertificates[0].Subject.CommonName, state.NegotiatedProtocol
}

func TestCertificateIsReplacedWhileItServes(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	clk := clock.NewManual(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	if _, err := edge.OpenCertificate(cert, key, clk, slog.New(slog.DiscardHandler)); err == nil {
		t.Fatal("a certificate that is not there was opened")
	}
	writePair(t, cert, key, "first.example")
	c, err := edge.OpenCertificate(cert, key, clk, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	address := serve(t, http.NotFoundHandler(), c.Config())
	want := func(name string) {
		t.Helper()
		clk.Add(2 * time.Second)
		if got, protocol := handshake(t, address, tls.VersionTLS13); got != name || protocol != "h2" {
			t.Errorf("certificate of %q over %q, want %q", got, protocol, name)
		}
	}
	want("first.example")
	if name, _ := handshake(t, address, tls.VersionTLS11); name != "" {
		t.Error("TLS 1.1 was taken")
	}
	writePair(t, cert, key, "second.example")
	want("second.example")
	if err := os.WriteFile(key, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	want("second.example")
	writePair(t, cert, key, "third.example")
	want("third.example")
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	want("third.example")
}

// A client that takes nothing is cut off; one that waits for its answer is not.
func TestSlowReadersAreCutAndLongPollsAreNot(t *testing.T) {
	const within = 200 * time.Millisecond
	cut := make(chan error, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("/poll", func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(3 * within) //nolint:forbidigo // the poll
		_, _ = io.WriteString(w, "news")
	})
	mux.HandleFunc("/long", func(w http.ResponseWriter, _ *http.Request) {
		var err error
		for chunk := make([]byte, 1<<20); err == nil; {
			_, err = w.Write(chunk)
		}
		cut <- err
	})
	address := serve(t, edge.WriteProgress(clock.System{}, within, mux), nil)
	client := &http.Client{Timeout: time.Minute}
	for range 2 { // the deadline of the one before does not hit the next on the connection
		resp, err := client.Do(request(t, "http://"+address+"/poll"))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || string(body) != "news" {
			t.Errorf("%q %v", body, err)
		}
	}
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET /long HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-cut:
		if !strings.Contains(err.Error(), "timeout") {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("a client that takes nothing is still served")
	}
}

func request(t *testing.T, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWriterWithoutDeadlinesWrites(t *testing.T) {
	rec := httptest.NewRecorder()
	edge.WriteProgress(clock.System{}, time.Second, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "x")
	})).ServeHTTP(rec, request(t, "http://x/"))
	if rec.Body.String() != "x" {
		t.Errorf("%q", rec.Body)
	}
}
