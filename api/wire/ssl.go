package wire

// SSLBody is the body of GET /instances/{id}/ssl.
type SSLBody struct {
	SSL SSL `json:"ssl"`
}

// SSL is TLS towards clients. TLSPort, which Trove does not have, is where the engine speaks it, if that is not the port it speaks without.
type SSL struct {
	Status      string          `json:"status"` // on, off
	Mode        string          `json:"mode"`   // builtin, basic, enforced, mtls
	Certificate *SSLCertificate `json:"certificate,omitempty"`

	TLSPort int `json:"tls_port,omitempty"`
}

// SSLCertificate is the server's certificate. SAN is null where it names nothing but CN; Payload is its PEM, when it was asked for; Authorities,
// which Trove does not have, is then what a client verifies it with, if the service's own authority made it: PEM.
type SSLCertificate struct {
	CN       string   `json:"cn"`
	ExpireAt Time     `json:"expire_at"`
	SAN      []string `json:"san"`
	Payload  string   `json:"payload,omitempty"`

	Authorities string `json:"authorities,omitempty"`
}

// SSLActionBody is the body of POST /instances/{id}/ssl.
type SSLActionBody struct {
	SSL SSLAction `json:"ssl"`
}

// SSLAction enables, disables or rolls back; the certificates and the key are PEM, and not in Trove.
type SSLAction struct {
	Enable         bool   `json:"enable,omitempty"`
	Disable        bool   `json:"disable,omitempty"`
	Rollback       bool   `json:"rollback,omitempty"`
	Mode           string `json:"mode,omitempty"`
	Certificate    string `json:"certificate,omitempty"`
	PrivateKey     string `json:"private_key,omitempty"`
	CACertificates string `json:"ca_certificates,omitempty"`
}

// SSLChangedBody is the answer to POST /instances/{id}/ssl.
type SSLChangedBody struct {
	SSL SSLChanged `json:"ssl"`
}

// SSLChanged says whether the change is taken up with the next restart only.
type SSLChanged struct {
	Status          string `json:"status,omitempty"` // after a rollback, like the next
	Mode            string `json:"mode,omitempty"`
	RestartRequired bool   `json:"restart_required"`
}
