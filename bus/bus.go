// Package bus is the port to the messages between controllers and guests.
//
// The bus carries; nothing that matters may depend on a message arriving. Every message can be lost once, a request can have been
// carried out although its answer was lost. Subjects are made by package guestapi only. A Conn may be used from several goroutines.
//
// Drivers: membus (inside one process, for tests), natsbus (NATS core); natsbus/server is the broker with its identities.
// bustest is the suite that each must pass.
package bus

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	trove "github.com/trove-dbaas/trove"
)

// ErrNoResponder is returned by Request at once when nobody listens to the subject: the guest is not connected.
var ErrNoResponder = errors.New("nobody answers on this subject")

// ErrClosed is returned after Close.
var ErrClosed = errors.New("the bus connection is closed")

// ErrForbidden is returned (or reported through the connection's error handler where the protocol answers later) when the
// identity has no right to the subject. It is permanent.
var ErrForbidden = errors.New("this identity may not use the subject")

// Message is what a subscription receives.
type Message struct {
	Subject string
	Data    []byte
	reply   func(ctx context.Context, data []byte) error
}

// NewMessage is for drivers; reply is nil when the sender does not wait for an answer.
func NewMessage(subject string, data []byte, reply func(context.Context, []byte) error) Message {
	return Message{Subject: subject, Data: data, reply: reply}
}

// Reply answers a request, once. It is a no-op for a message that is none. Only guests reply: a controller never answers to a guest's
// reply subject, which the guest could have pointed at another guest.
func (m Message) Reply(ctx context.Context, data []byte) error {
	if m.reply == nil {
		return nil
	}
	return m.reply(ctx, data)
}

// Handler handles one message. Handlers of one subscription run one after another; a handler that takes long must hand over.
type Handler func(ctx context.Context, m Message)

// Conn is a connection to the bus.
type Conn interface {
	// Publish sends without an answer. It returns when the message is handed to the connection, not when it arrived.
	Publish(ctx context.Context, subject string, data []byte) error
	// Request sends and waits for one answer until ctx ends. The context must have a deadline. It may be repeated only if
	// the receiver treats a repetition as one: guestapi's commands do.
	Request(ctx context.Context, subject string, data []byte) ([]byte, error)
	// Subscribe delivers messages until the returned function is called (which waits for the running handler) or the connection is
	// closed. The handler's context carries the values of ctx but ends when the connection is closed, not with ctx; stop must not be
	// called by the handler itself. "*" stands for one token of the subject, ">" at the end for the rest. With a queue name each message goes to one member of the queue.
	Subscribe(ctx context.Context, subject, queue string, h Handler) (stop func(), err error)
	// Close closes the connection and waits for running handlers. It may be called twice.
	Close() error
}

// Credential is what a guest needs to join the bus.
type Credential struct {
	JWT       string    `json:"jwt"` // not a secret: it is worth nothing without the guest's own key
	Expires   time.Time `json:"expires"`
	Addresses []string  `json:"addresses"` // host:port, all brokers
	CABundle  string    `json:"ca_bundle"` // PEM
	// EnrolURLs are where it is renewed when the bus cannot be used; those of the boot data are tried after them.
	EnrolURLs []string `json:"enrol_urls,omitempty"`
	// ReconnectJitter is the most that the guest waits at random before it connects again; it grows with the number of guests. 0: the guest's own.
	ReconnectJitter time.Duration `json:"reconnect_jitter,omitempty"`
}

// Trust names what a guest knows with this credential: where the bus is and whom it believes. Two credentials with the same tell the same.
func (c Credential) Trust() string { return TrustOf(c.Addresses, c.EnrolURLs, c.CABundle) }

// TrustOf is Credential.Trust of these parts. The order of addresses does not matter.
func TrustOf(addresses, enrolURLs []string, bundle string) string {
	h := sha256.New()
	for _, list := range [][]string{addresses, enrolURLs, {bundle}} {
		for _, text := range slices.Sorted(slices.Values(list)) {
			fmt.Fprintf(h, "%d:%s", len(text), text)
		}
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Announcer says what a credential tells guests at this moment. An Issuer may be one.
type Announcer interface {
	// Trust returns Credential.Trust of a credential that would be issued now.
	Trust() string
}

// Issuer makes and revokes the identities of guests. Its methods may be repeated.
type Issuer interface {
	// IssueGuest signs a credential for the guest of an instance, for the public key that the guest made. The instance id must pass
	// trove.ValidID: anything else is a permanent error.
	IssueGuest(ctx context.Context, instance, publicKey string) (Credential, error)
	// RevokeGuest cuts the key's connections and refuses it from now on, in every broker.
	RevokeGuest(ctx context.Context, instance, publicKey string) error
}

// BootData is what a new machine receives. The token in it can be used once, within its short life.
type BootData struct {
	Instance  string   `json:"instance"`
	Engine    string   `json:"engine"`
	Token     string   `json:"token"`
	EnrolURLs []string `json:"enrol_urls"`
	CABundle  string   `json:"ca_bundle"`
}

// HashToken returns what the store keeps of an enrolment token: the SHA-256 of its text in lower-case hexadecimal. Who makes tokens and who
// takes them both use it.
func HashToken(token trove.Secret) string {
	sum := sha256.Sum256([]byte(token.Reveal()))
	return hex.EncodeToString(sum[:])
}

// Enrolment is where guests enrol: what the taskmanager puts into BootData.
type Enrolment interface {
	EnrolURLs() []string
	CABundle() string
}
