package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/internal/imagelayout"
)

const identityDir = imagelayout.StateDir + "/identity"

var _ = register(map[string]func(*attacker) error{
	"bus-read": readCommands, "bus-listen": listenToControllers, "bus-speak": speakAsAnother, "bus-command": command, "bus-answer": answer,
	"bus-reply-subject": replySubject, "bus-forge": forgeReports, "bus-identity": foreignIdentities, "bus-flood": flood,
	"bus-connections": manyConnections, "bus-large": large,
})

// identity is what lies on the guest's volume.
type identity struct {
	seed       []byte
	credential bus.Credential
	instance   string
}

func ownIdentity() (identity, error) {
	var id identity
	var err error
	if id.seed, err = os.ReadFile(identityDir + "/guest.nk"); err != nil {
		return id, err
	}
	data, err := os.ReadFile(identityDir + "/credential.json")
	if err != nil {
		return id, err
	}
	if err := json.Unmarshal(data, &id.credential); err != nil {
		return id, err
	}
	claims, err := jwt.DecodeUserClaims(id.credential.JWT)
	if err != nil {
		return id, err
	}
	id.instance = claims.Name
	return id, nil
}

func (id identity) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(id.credential.CABundle))
	return pool
}

func (id identity) key() (nkeys.KeyPair, error) { return nkeys.FromSeed(id.seed) }

// dial connects with any JWT and key.
func (id identity) dial(text string, key nkeys.KeyPair, more ...nats.Option) (*nats.Conn, error) {
	options := append([]nats.Option{
		nats.UserJWT(func() (string, error) { return text, nil }, key.Sign),
		nats.Secure(&tls.Config{MinVersion: tls.VersionTLS13, RootCAs: id.roots()}),
		nats.NoReconnect(), nats.Timeout(5 * time.Second),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
	}, more...)
	return nats.Connect("tls://"+id.credential.Addresses[0], options...)
}

// join connects as the guest.
func join() (identity, *nats.Conn, error) {
	id, err := ownIdentity()
	if err != nil {
		return id, nil, err
	}
	key, err := id.key()
	if err != nil {
		return id, nil, err
	}
	nc, err := id.dial(id.credential.JWT, key)
	return id, nc, err
}

// refusal is what the broker says of the last act on a subject; nil if it says nothing. The broker answers in order: what it had to say has come
// with the answer to the flush.
func refusal(nc *nats.Conn, subject string) error {
	if err := nc.FlushTimeout(5 * time.Second); err != nil {
		return fmt.Errorf("flush: %w, %w", err, nc.LastError())
	}
	if err := nc.LastError(); err != nil && strings.Contains(err.Error(), strconv.Quote(subject)) {
		return err
	}
	return nil
}

func subscribe(nc *nats.Conn, subject, queue string, heard *atomic.Int32) error {
	_, err := nc.QueueSubscribe(subject, queue, func(*nats.Msg) { heard.Add(1) })
	if err != nil {
		return err
	}
	return refusal(nc, subject)
}

func publish(nc *nats.Conn, subject, reply string, data []byte) error {
	if err := nc.PublishMsg(&nats.Msg{Subject: subject, Reply: reply, Data: data}); err != nil {
		return err
	}
	return refusal(nc, subject)
}

// readCommands listens for the commands of others while the test gives some, to the neighbour and to this guest.
func readCommands(a *attacker) error {
	id, nc, err := join()
	if err != nil {
		return err
	}
	defer nc.Close()
	var foreign, own atomic.Int32
	neighbour := "trove.v1.guest." + a.in["neighbour"] + ".cmd"
	for _, subject := range []string{neighbour, "trove.v1.guest.*.cmd", "trove.v1.guest.>", "trove.>", ">", "*.*.*.*.cmd", "trove.v1.guest." + id.instance + ".>"} {
		a.try("subscribe to "+subject, subscribe(nc, subject, "", &foreign))
	}
	a.try("subscribe in a queue group to "+neighbour, subscribe(nc, neighbour, "guest", &foreign))
	a.own("subscribe to the own commands", subscribe(nc, "trove.v1.guest."+id.instance+".cmd", "", &own))
	// The test gives a command to both guests as soon as it sees this file.
	if err := os.WriteFile(a.in["ready"], nil, 0o600); err != nil {
		return err
	}
	for end := time.Now().Add(10 * time.Second); own.Load() == 0 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
	}
	a.note("hear an own command", true, own.Load() > 0, fmt.Sprint(own.Load(), " messages"))
	a.note("hear a command of the neighbour", false, foreign.Load() > 0, fmt.Sprint(foreign.Load(), " messages"))
	return nil
}

// listenToControllers tries everything else that is said on the bus.
func listenToControllers(a *attacker) error {
	id, nc, err := join()
	if err != nil {
		return err
	}
	defer nc.Close()
	var heard atomic.Int32
	for _, subject := range []string{
		"_INBOX.>", "_INBOX.ctl.>", "_INBOX.ctl.requests.>", "$SYS.>", "$SYS.ACCOUNT.*.CONNECT", "$JS.>", "_R_.>", "trove.v1.ctl.>", "trove.v1.ctl.wake",
		"trove.v1.guest.*.up.*", "trove.v1.guest." + a.in["neighbour"] + ".up.hb", "trove.v1.guest." + id.instance + ".up.hb",
	} {
		a.try("subscribe to "+subject, subscribe(nc, subject, "", &heard))
	}
	a.own("subscribe to the own commands", subscribe(nc, "trove.v1.guest."+id.instance+".cmd", "", &heard))
	time.Sleep(500 * time.Millisecond) // heartbeats of several guests and answers to the API go over the bus meanwhile
	a.note("hear anything", false, heard.Load() > 0, fmt.Sprint(heard.Load(), " messages"))
	return nil
}

// heartbeat is one that a conductor would believe.
func heartbeat(status string) []byte {
	return fmt.Appendf(nil, `{"boot_id":"forged","seq":9000000000000000,"service":%q,"agent_version":"forged","volume_used":1,"volume_total":2}`, status)
}

// speakAsAnother publishes in the neighbour's name.
func speakAsAnother(a *attacker) error {
	id, nc, err := join()
	if err != nil {
		return err
	}
	defer nc.Close()
	up := "trove.v1.guest." + a.in["neighbour"] + ".up."
	for kind, data := range map[string][]byte{
		"hb": heartbeat("crashed"), "end": []byte(`{"id":"x","state":"done"}`),
		"hello": []byte(`{"boot_id":"forged","agent_version":"forged","protocol":1,"engine":"mariadb"}`), "progress": []byte(`{"id":"x","state":"running"}`),
	} {
		a.try("publish to "+up+kind, publish(nc, up+kind, "", data))
	}
	a.try("publish deeper", publish(nc, "trove.v1.guest."+id.instance+".up.a.b", "", nil))
	a.own("publish an own heartbeat", publish(nc, "trove.v1.guest."+id.instance+".up.hb", "", heartbeat("healthy")))
	return nil
}

// command gives commands, to the neighbour and to itself, and speaks to the controllers.
func command(a *attacker) error {
	id, nc, err := join()
	if err != nil {
		return err
	}
	defer nc.Close()
	for _, subject := range []string{
		"trove.v1.guest." + a.in["neighbour"] + ".cmd", "trove.v1.guest." + id.instance + ".cmd", "trove.v1.ctl.wake", "trove.v1.ctl.account",
		"$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.SERVER.PING", "$JS.API.INFO",
	} {
		a.try("publish to "+subject, publish(nc, subject, "", []byte(`{"v":1,"id":"attack","command":"enable-root","args":{"password":"attack"}}`)))
	}
	a.own("publish an own heartbeat", publish(nc, "trove.v1.guest."+id.instance+".up.hb", "", heartbeat("healthy")))
	return nil
}

// answer tries to be quicker than the neighbour, whose requests the test asks for all the while.
func answer(a *attacker) error {
	_, nc, err := join()
	if err != nil {
		return err
	}
	defer nc.Close()
	forged := []byte(`{"v":1,"result":[{"name":"forged"}]}`)
	for _, subject := range []string{"_INBOX.ctl.requests", "_INBOX.ctl.requests.1", "_INBOX.ctl.requests.AAAAAAAAAAAAAAAAAAAAAA.1", "_INBOX.a.b"} {
		for range 5 {
			a.try("answer on "+subject, publish(nc, subject, "", forged))
		}
	}
	// The right to answer is there for a message that came: it is spent with the first answer.
	id, own, err := join()
	if err != nil {
		return err
	}
	defer own.Close()
	got := make(chan *nats.Msg, 8)
	if _, err := own.ChanSubscribe("trove.v1.guest."+id.instance+".cmd", got); err != nil {
		return err
	}
	if err := os.WriteFile(a.in["ready"], nil, 0o600); err != nil {
		return err
	}
	select {
	case m := <-got:
		a.own("answer an own request", publish(own, m.Reply, "", forged))
		a.try("answer it a second time", publish(own, m.Reply, "", forged))
		a.try("answer it by another connection", publish(nc, m.Reply, "", forged))
	case <-time.After(10 * time.Second):
		return errors.New("no request came")
	}
	return nil
}

// replySubject names the neighbour's commands as the place to answer to.
func replySubject(a *attacker) error {
	id, nc, err := join()
	if err != nil {
		return err
	}
	defer nc.Close()
	for _, kind := range []string{"hb", "hello", "end", "progress"} {
		a.own("publish a report whose answer would go to the neighbour",
			publish(nc, "trove.v1.guest."+id.instance+".up."+kind, "trove.v1.guest."+a.in["neighbour"]+".cmd", heartbeat("healthy")))
	}
	return nil
}

// forgeReports says in the own name what no agent says.
func forgeReports(a *attacker) error {
	id, nc, err := join()
	if err != nil {
		return err
	}
	defer nc.Close()
	up := "trove.v1.guest." + id.instance + ".up."
	other := a.in["neighbour"]
	for what, m := range map[string][2]string{
		"name the neighbour in a heartbeat": {"hb", fmt.Sprintf(`{"instance":%q,"instance_id":%q,"boot_id":"b","seq":1,"service":"crashed","agent_version":"1"}`, other, other)},
		"a negative volume":                 {"hb", `{"boot_id":"b","seq":1,"service":"healthy","agent_version":"1","volume_used":-1}`},
		"a status that does not exist":      {"hb", `{"boot_id":"b","seq":1,"service":"DELETED","agent_version":"1"}`},
		"no JSON":                           {"hb", "\x00\xff{"},
		"deep JSON":                         {"hb", strings.Repeat(`{"a":`, 20000)},
		"an operation of somebody else":     {"end", fmt.Sprintf(`{"id":%q,"state":"done"}`, a.in["operation"])},
		"another kind of report":            {"nonsense", "{}"},
		"a boot id with line ends":          {"hello", `{"boot_id":"a\nlevel=ERROR msg=forged","agent_version":"1","protocol":1,"engine":"m"}`},
	} {
		a.own("report "+what, publish(nc, up+m[0], "", []byte(m[1])))
	}
	return nil
}

// foreignIdentities tries to be somebody else, or to be oneself with more rights.
func foreignIdentities(a *attacker) error {
	id, err := ownIdentity()
	if err != nil {
		return err
	}
	key, err := id.key()
	if err != nil {
		return err
	}
	nc, err := id.dial(id.credential.JWT, key)
	a.own("connect with the own credential", err)
	if err == nil {
		nc.Close()
	}
	stranger, err := nkeys.CreateUser()
	if err != nil {
		return err
	}
	account, err := nkeys.CreateAccount()
	if err != nil {
		return err
	}
	try := func(what, text string, key nkeys.KeyPair) {
		nc, err := id.dial(text, key)
		if err == nil {
			nc.Close()
		}
		a.try(what, err)
	}
	try("connect with the own JWT and another key", id.credential.JWT, stranger)
	forge := func(change func(*jwt.UserClaims)) string {
		public, _ := key.PublicKey()
		own, _ := jwt.DecodeUserClaims(id.credential.JWT)
		claims := jwt.NewUserClaims(public)
		claims.Name, claims.IssuerAccount = own.Name, own.IssuerAccount
		change(claims)
		text, err := claims.Encode(account)
		if err != nil {
			return err.Error()
		}
		return text
	}
	try("connect with a JWT of an own account", forge(func(c *jwt.UserClaims) { c.IssuerAccount = "" }), key)
	try("connect with a JWT in the neighbour's name, signed by an own account", forge(func(c *jwt.UserClaims) { c.Name = a.in["neighbour"] }), key)
	try("connect with all rights, signed by an own account", forge(func(c *jwt.UserClaims) { c.Pub.Allow = jwt.StringList{">"} }), key)
	parts := strings.Split(id.credential.JWT, ".")
	try("connect with the own JWT and no signature", parts[0]+"."+parts[1]+".", key)
	plain, err := nats.Connect("nats://"+id.credential.Addresses[0], nats.NoReconnect(), nats.Timeout(5*time.Second), nats.Secure(&tls.Config{RootCAs: id.roots(), MinVersion: tls.VersionTLS13}))
	if err == nil {
		plain.Close()
	}
	a.try("connect without a credential", err)
	a.try("speak without TLS", plainText(id.credential.Addresses[0], id.credential.JWT))
	return nil
}

// plainText sends the CONNECT line without TLS; an error is a refusal.
func plainText(address, text string) error {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(12 * time.Second))
	buf := make([]byte, 4096)
	if _, err := conn.Read(buf); err != nil { // INFO
		return err
	}
	fmt.Fprintf(conn, "CONNECT {\"verbose\":true,\"jwt\":%q}\r\nPING\r\n", text)
	var said strings.Builder
	for {
		n, err := conn.Read(buf)
		said.Write(buf[:n])
		if strings.Contains(said.String(), "PONG") {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%q: %w", said.String(), err)
		}
	}
}

// flood publishes own heartbeats as fast as it can until it is cut, for 8 s at most.
func flood(a *attacker) error {
	id, nc, err := join()
	if err != nil {
		return err
	}
	defer nc.Close()
	var cut atomic.Bool
	nc.SetDisconnectErrHandler(func(*nats.Conn, error) { cut.Store(true) })
	nc.SetClosedHandler(func(*nats.Conn) { cut.Store(true) })
	subject, data := "trove.v1.guest."+id.instance+".up.hb", heartbeat("healthy")
	began, sent := time.Now(), 0
	for ; !cut.Load() && time.Since(began) < 8*time.Second; sent++ {
		if err := nc.Publish(subject, data); err != nil {
			cut.Store(true)
		}
	}
	a.fact("sent", strconv.Itoa(sent))
	a.note("publish an own heartbeat", true, sent > 1000, fmt.Sprint(sent, " sent"))
	a.note("flood for 8 s", false, !cut.Load(), "connected for "+time.Since(began).Round(100*time.Millisecond).String())
	return nil
}

// manyConnections opens 60 connections with one credential.
func manyConnections(a *attacker) error {
	id, err := ownIdentity()
	if err != nil {
		return err
	}
	key, err := id.key()
	if err != nil {
		return err
	}
	var conns []*nats.Conn
	opened, refusedInARow := 0, 0
	// The packet filter lets a burst of connections pass and then one every two seconds.
	for n := 0; n < 60 && refusedInARow < 4; n++ {
		nc, err := id.dial(id.credential.JWT, key, nats.Timeout(500*time.Millisecond))
		if err != nil {
			a.fact("refused", err.Error())
			refusedInARow++
			continue
		}
		opened, refusedInARow = opened+1, 0
		conns = append(conns, nc)
	}
	left := func() (n int) {
		for _, nc := range conns {
			if nc.IsConnected() {
				n++
			}
		}
		return n
	}
	for end := time.Now().Add(5 * time.Second); left() > 2 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
	}
	a.note("open a connection", true, opened > 0, fmt.Sprint(opened, " opened"))
	a.note("open 60 connections at once", false, opened == 60, fmt.Sprint(opened, " opened, then ", a.report.Facts["refused"]))
	a.note("keep more than two connections", false, left() > 2, fmt.Sprint(left(), " left"))
	for _, nc := range conns {
		nc.Close()
	}
	return nil
}

// large sends and subscribes more than the limits.
func large(a *attacker) error {
	id, nc, err := join()
	if err != nil {
		return err
	}
	subject := "trove.v1.guest." + id.instance + ".up.hb"
	a.own("publish 1000 bytes", publish(nc, subject, "", make([]byte, 1000)))
	var heard atomic.Int32
	worked := 0
	for range 8 {
		err = subscribe(nc, "trove.v1.guest."+id.instance+".cmd", "", &heard)
		if err == nil {
			err = nc.LastError()
		}
		if err != nil {
			break
		}
		worked++
	}
	a.own("subscribe once", map[bool]error{false: err}[worked > 0])
	a.try("subscribe eight times", err)
	nc.Close()
	// The library refuses by itself what is too large, so the protocol is spoken by hand over its connection.
	id, err = ownIdentity()
	if err != nil {
		return err
	}
	a.try("publish 300,000 bytes", rawPublish(id, subject, 300_000))
	return nil
}
