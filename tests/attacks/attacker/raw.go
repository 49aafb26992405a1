package main

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"time"
)

// rawPublish speaks the bus's protocol by hand, without what the client library refuses on its own side. An error is a refusal.
func rawPublish(id identity, subject string, size int) error {
	conn, err := net.DialTimeout("tcp", id.credential.Addresses[0], 5*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	var info struct {
		Nonce string `json:"nonce"`
	}
	if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "INFO ")), &info); err != nil {
		return err
	}
	host, _, _ := net.SplitHostPort(id.credential.Addresses[0])
	secure := tls.Client(conn, &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: id.roots(), ServerName: host})
	key, err := id.key()
	if err != nil {
		return err
	}
	signature, err := key.Sign([]byte(info.Nonce))
	if err != nil {
		return err
	}
	connect, err := json.Marshal(map[string]any{
		"jwt": id.credential.JWT, "sig": base64.RawURLEncoding.EncodeToString(signature), "verbose": false, "protocol": 1, "lang": "attacker",
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(secure, "CONNECT %s\r\nPING\r\n", connect)
	answers := bufio.NewReader(secure)
	for {
		line, err := answers.ReadString('\n')
		if err != nil {
			return err
		}
		if strings.HasPrefix(line, "-ERR") {
			return fmt.Errorf("before the message: %s", line)
		}
		if strings.HasPrefix(line, "PONG") {
			break
		}
	}
	go func() { fmt.Fprintf(secure, "PUB %s %d\r\n%s\r\nPING\r\n", subject, size, make([]byte, size)) }()
	for {
		line, err := answers.ReadString('\n')
		if err != nil {
			return err
		}
		if strings.HasPrefix(line, "-ERR") {
			return fmt.Errorf("refused: %s", strings.TrimSpace(line))
		}
		if strings.HasPrefix(line, "PONG") {
			return nil
		}
	}
}
