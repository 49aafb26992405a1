package main

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/trove-dbaas/trove/guestapi"
)

var _ = register(map[string]func(*attacker) error{"grant": hearGrant, "gateway-paths": gatewayPaths, "gateway-others": gatewayOthers})

// hearGrant listens to the own commands until one brings a grant, and tells it.
func hearGrant(a *attacker) error {
	id, nc, err := join()
	if err != nil {
		return err
	}
	defer nc.Close()
	heard := make(chan *nats.Msg, 64)
	if _, err := nc.ChanSubscribe("trove.v1.guest."+id.instance+".cmd", heard); err != nil {
		return err
	}
	if err := nc.Flush(); err != nil {
		return err
	}
	if err := os.WriteFile(a.in["ready"], nil, 0o600); err != nil {
		return err
	}
	limit := time.After(20 * time.Second)
	for {
		select {
		case m := <-heard:
			var message any
			if json.Unmarshal(m.Data, &message) != nil {
				continue
			}
			if g := findGrant(message); g != nil {
				data, err := json.Marshal(g)
				if err != nil {
					return err
				}
				a.fact("grant", string(data))
				a.own("hear a grant of the own", nil)
				return nil
			}
		case <-limit:
			return errors.New("no grant came")
		}
	}
}

// findGrant looks for what has a token and a prefix.
func findGrant(v any) map[string]any {
	m, ok := v.(map[string]any)
	if !ok {
		return nil
	}
	if m["token"] != nil && m["prefix"] != nil {
		return m
	}
	for _, inner := range m {
		if g := findGrant(inner); g != nil {
			return g
		}
	}
	return nil
}

// object is a request to the gateway, as raw as it is sent.
type object struct {
	url, token   string
	method, name string // name as it stands in the request line, and as it is signed
	path         string // "": ObjectPath and name
	body         string
	headers      string
	key          nkeys.KeyPair
	noSignature  bool
}

// send returns the answer's status; an error is one that is no success.
func (o object) send(id identity) error {
	u, err := url.Parse(o.url)
	if err != nil {
		return err
	}
	conn, err := tls.Dial("tcp", u.Host, &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: id.roots()})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	state := conn.ConnectionState()
	exported, err := state.ExportKeyingMaterial(guestapi.ObjectExporter, nil, guestapi.ObjectExporterSize)
	if err != nil {
		return err
	}
	path := o.path
	if path == "" {
		path = guestapi.ObjectPath + o.name
	}
	sum := sha256.Sum256([]byte(o.body))
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n%s: %s\r\n%s",
		o.method, path, u.Host, o.token, len(o.body), guestapi.HeaderSHA256, hex.EncodeToString(sum[:]), o.headers)
	if !o.noSignature {
		signature, err := o.key.Sign(guestapi.ObjectText(o.method, o.name, o.token, exported))
		if err != nil {
			return err
		}
		head += guestapi.HeaderSignature + ": " + base64.StdEncoding.EncodeToString(signature) + "\r\n"
	}
	if _, err := io.WriteString(conn, head+"\r\n"+o.body); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: o.method})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%s: %s", resp.Status, answer)
	}
	return nil
}

// granted reads a grant of the input and makes a good request of it.
func (a *attacker) granted(name string) (identity, object, guestapi.Grant, error) {
	var g guestapi.Grant
	id, err := ownIdentity()
	if err != nil {
		return id, object{}, g, err
	}
	if err := json.Unmarshal([]byte(a.in[name]), &g); err != nil {
		return id, object{}, g, err
	}
	key, err := id.key()
	return id, object{url: g.URLs[0], token: g.Token, method: http.MethodPut, name: g.Prefix + "attack", body: "attack", key: key}, g, err
}

// gatewayPaths plays tricks with the names of objects, with an own grant to write.
func gatewayPaths(a *attacker) error {
	id, good, g, err := a.granted("grant")
	if err != nil {
		return err
	}
	a.own("write an object of the own", good.send(id))
	for _, name := range []string{
		g.Prefix + "../../" + a.in["neighbour"] + "/x", g.Prefix + "..", g.Prefix + "./x", g.Prefix + "%2e%2e/x", g.Prefix + "..%2f..%2fx", g.Prefix + "%252e%252e%252fx",
		g.Prefix + `..\..\x`, g.Prefix + "x%00", "/etc/passwd", g.Prefix + "/etc/passwd", g.Prefix, strings.TrimSuffix(g.Prefix, "/"), strings.TrimSuffix(g.Prefix, "/") + "x/y",
		g.Prefix + ".hidden", g.Prefix + "x?prefix=/", g.Prefix + strings.Repeat("x/", 400) + "x", a.in["neighbour"] + "/mariadb-error/x", "agents/9.9.9/trove-guestagent", "",
		g.Prefix + "\xc0\xae\xc0\xae/x",
	} {
		o := good
		o.name = name
		a.try(fmt.Sprintf("write %.80q", name), o.send(id))
	}
	for _, path := range []string{"/metrics", "/", "/v1/objects/../objects/" + good.name, "https://" + strings.TrimPrefix(good.url, "https://") + "/v1/objects/" + good.name, "/../" + good.name} {
		o := good
		o.path = path
		a.try("write to the path "+path, o.send(id))
	}
	o := good
	o.name = g.Prefix + "more"
	o.body = strings.Repeat("x", int(min(g.MaxBytes+1, 64<<20)))
	a.try("write more than granted", o.send(id))
	return nil
}

// gatewayOthers asks for what is others', and for what the own grant does not give.
func gatewayOthers(a *attacker) error {
	id, good, g, err := a.granted("grant")
	if err != nil {
		return err
	}
	a.own("write an object of the own", good.send(id))
	leaked := guestapi.Grant{}
	if err := json.Unmarshal([]byte(a.in["leaked"]), &leaked); err != nil {
		return err
	}
	try := func(what string, change func(*object)) {
		o := good
		change(&o)
		a.try(what, o.send(id))
	}
	try("write with the neighbour's leaked grant", func(o *object) { o.token, o.name = leaked.Token, leaked.Prefix+"attack" })
	try("the same, not signed", func(o *object) { o.token, o.name, o.noSignature = leaked.Token, leaked.Prefix+"attack", true })
	try("read with the neighbour's leaked grant", func(o *object) { o.method, o.token, o.name, o.body = "GET", leaked.Token, leaked.Prefix+"attack", "" })
	try("look with the neighbour's leaked grant", func(o *object) { o.method, o.token, o.name, o.body = "HEAD", leaked.Token, leaked.Prefix+"attack", "" })
	try("write to the neighbour's prefix with the own grant", func(o *object) { o.name = leaked.Prefix + "attack" })
	for name := range strings.FieldsSeq(a.in["objects"]) {
		try("write "+name+", which is the neighbour's", func(o *object) { o.name = name })
		try("read "+name+", which is the neighbour's", func(o *object) { o.method, o.name, o.body = "GET", name, "" })
	}
	try("read with a grant to write", func(o *object) { o.method, o.body = "GET", "" })
	try("delete with a grant to write", func(o *object) { o.method, o.body = "DELETE", "" })
	try("list", func(o *object) { o.method, o.name, o.body = "GET", g.Prefix, "" })
	try("write another object in place of the first", func(o *object) { o.body = "changed" })
	try("use no grant", func(o *object) { o.token = "" })
	// The token says what it is good for: another project, another prefix, another time, and signed by nobody.
	parts := strings.Split(g.Token, ".")
	if len(parts) != 4 {
		return errors.New("the token has another form")
	}
	data, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return err
	}
	for what, change := range map[string]func(map[string]any){
		"another project's objects": func(c map[string]any) { c["p"] = a.in["project"] },
		"another container":         func(c map[string]any) { c["c"] = "agents"; delete(c, "p") },
		"all objects":               func(c map[string]any) { c["o"] = a.in["neighbour"] + "/" },
		"a year":                    func(c map[string]any) { c["e"] = time.Now().Add(8760 * time.Hour).Unix() },
	} {
		claims := map[string]any{}
		if err := json.Unmarshal(data, &claims); err != nil {
			return err
		}
		change(claims)
		forged, err := json.Marshal(claims)
		if err != nil {
			return err
		}
		parts[2] = base64.RawURLEncoding.EncodeToString(forged)
		try("write with a grant changed to "+what, func(o *object) { o.token = strings.Join(parts, ".") })
	}
	return nil
}
