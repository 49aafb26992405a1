package main

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

var _ = register(map[string]func(*attacker) error{"net-dial": dialAll, "net-connections": connections})

// dialAll connects to each address of the input: "own" must be reached, the others must not.
func dialAll(a *attacker) error {
	for address := range strings.FieldsSeq(a.in["own"]) {
		a.own("connect to "+address, dial(address))
	}
	results := make(chan [2]string, 256)
	addresses := strings.Fields(a.in["addresses"])
	for _, address := range addresses {
		go func() { results <- [2]string{address, text(dial(address))} }()
	}
	for range addresses {
		r := <-results
		a.note("connect to "+r[0], false, r[1] == "", r[1])
	}
	for address := range strings.FieldsSeq(a.in["udp"]) {
		a.try("get an answer over UDP from "+address, askUDP(address))
	}
	for address := range strings.FieldsSeq(a.in["ping"]) {
		a.try("ping "+address, ping(address))
	}
	return nil
}

func dial(address string) error {
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err == nil {
		c.Close()
		return nil
	}
	// A refused connection was answered by the other side: it was reached.
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ECONNRESET) {
		return nil
	}
	return err
}

func askUDP(address string) error {
	c, err := net.DialTimeout("udp", address, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("attack")); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 16))
	if errors.Is(err, unix.ECONNREFUSED) {
		return nil // answered
	}
	return err
}

// ping sends an echo request on the socket that needs no privilege.
func ping(address string) error {
	ip := net.ParseIP(address)
	family, protocol, echo := unix.AF_INET, unix.IPPROTO_ICMP, byte(8)
	var to unix.Sockaddr
	if four := ip.To4(); four != nil {
		to = &unix.SockaddrInet4{Addr: [4]byte(four)}
	} else {
		family, protocol, echo = unix.AF_INET6, unix.IPPROTO_ICMPV6, 128
		to = &unix.SockaddrInet6{Addr: [16]byte(ip)}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM, protocol)
	if err != nil {
		return err
	}
	defer closeIf(fd, nil)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 300_000}); err != nil {
		return err
	}
	if err := unix.Sendto(fd, []byte{echo, 0, 0, 0, 0, 1, 0, 1}, 0, to); err != nil {
		return err
	}
	_, _, err = unix.Recvfrom(fd, make([]byte, 256), 0)
	return err
}

// connections opens connections to the bus as fast as it can for 3 s and says nothing on them.
func connections(a *attacker) error {
	id, err := ownIdentity()
	if err != nil {
		return err
	}
	opened, failed := 0, 0
	var all []net.Conn
	for began := time.Now(); time.Since(began) < 3*time.Second; {
		c, err := net.DialTimeout("tcp", id.credential.Addresses[0], 200*time.Millisecond)
		if err != nil {
			failed++
			continue
		}
		opened++
		all = append(all, c)
	}
	for _, c := range all {
		c.Close()
	}
	a.note("open a connection", true, opened > 0, fmt.Sprint(opened, " opened"))
	a.note("open more than 40 connections in 3 s", false, opened > 40, fmt.Sprint(opened, " opened, ", failed, " failed"))
	return nil
}
