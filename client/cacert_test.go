package client_test

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/trove-dbaas/trove/client"
)

func TestCACert(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, `{"instances":[]}`) }))
	s.StartTLS()
	defer s.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for ca, want := range map[string]bool{file: true, "": false} {
		c, err := client.New(client.Config{Token: "t", Endpoint: s.URL + "/v1.0/p", CACert: ca})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = c.AllInstances(t.Context()); (err == nil) != want {
			t.Errorf("with %q: %v", ca, err)
		}
	}
	if err := os.WriteFile(file, []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, ca := range []string{file, "/nowhere"} {
		if _, err := client.New(client.Config{Token: "t", Endpoint: s.URL, CACert: ca}); err == nil {
			t.Errorf("%s was taken", ca)
		}
	}
}
