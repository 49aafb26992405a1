package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/internal/imagelayout"
)

var _ = register(map[string]func(*attacker) error{"release": replaceAgent, "io": writeFast, "revoked": useRevoked})

// agentProcess returns the agent's number and what it runs from.
func agentProcess(not int) (pid int, exe string) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range all {
		line, err := os.ReadFile(path)
		words := strings.Split(string(line), "\x00")
		var n int
		if err != nil || len(words) < 2 || words[1] != "agent" {
			continue
		}
		if _, err := fmt.Sscan(filepath.Base(filepath.Dir(path)), &n); err != nil || n == not {
			continue
		}
		exe, err := os.Readlink(filepath.Dir(path) + "/exe")
		if err == nil {
			return n, exe
		}
	}
	return 0, ""
}

// replaceAgent puts releases of the agent where the agent would put one, asks the first process for each, and ends the agent.
func replaceAgent(a *attacker) error {
	program, err := os.ReadFile(imagelayout.AgentBin)
	if err != nil {
		return err
	}
	mine, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	var releases []struct {
		Name, Version, Manifest, Signature string
		Foreign                            bool
	}
	if err := json.Unmarshal([]byte(a.in["releases"]), &releases); err != nil {
		return err
	}
	for _, r := range releases {
		dir := filepath.Join(imagelayout.ReleasesDir, r.Version)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		content := program
		if r.Foreign {
			content = mine
		}
		if err := errors.Join(
			os.WriteFile(dir+"/trove-guestagent", content, 0o700),
			writeBase64(dir+"/manifest.json", r.Manifest), writeBase64(dir+"/manifest.sig", r.Signature),
			os.WriteFile(imagelayout.ReleasesDir+"/wanted.json", fmt.Appendf(nil, `{"version":%q,"op":"forged-%s","healthy":5000000000}`, r.Version, r.Version), 0o600),
		); err != nil {
			return err
		}
		old, before := agentProcess(0)
		a.own("end the agent, which runs from "+before, unix.Kill(old, unix.SIGKILL))
		var now int
		var exe string
		for end := time.Now().Add(15 * time.Second); now == 0 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			now, exe = agentProcess(old)
		}
		a.note("have another agent", true, now != 0, exe)
		a.note("run "+r.Name, false, exe != before, exe)
	}
	return nil
}

func writeBase64(path, text string) error {
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// writeFast writes to the volume past the page cache for 4 s.
func writeFast(a *attacker) error {
	fd, err := unix.Open("/data/attack-io", unix.O_CREAT|unix.O_WRONLY|unix.O_DIRECT, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove("/data/attack-io") }()
	defer closeIf(fd, nil)
	block, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	began, written := time.Now(), 0
	for time.Since(began) < 4*time.Second {
		n, err := unix.Pwrite(fd, block, int64(written%(256<<20)))
		if err != nil {
			return err
		}
		written += n
	}
	rate := float64(written) / (1 << 20) / time.Since(began).Seconds()
	a.note("write to the volume", true, written > 0, fmt.Sprintf("%.1f MiB/s", rate))
	a.note("write more than twice the flavor's 4 MiB/s", false, rate > 8, fmt.Sprintf("%.1f MiB/s", rate))
	return nil
}

// useRevoked tries what the own identity is still good for.
func useRevoked(a *attacker) error {
	e, err := findEndpoint()
	if err != nil {
		return err
	}
	id, err := ownIdentity()
	if err != nil {
		return err
	}
	key, err := id.key()
	if err != nil {
		return err
	}
	public, err := key.PublicKey()
	if err != nil {
		return err
	}
	_, err = e.do("GET", "/v1/nonce", nil)
	a.own("get a nonce", err)
	nc, err := id.dial(id.credential.JWT, key)
	if err == nil {
		nc.Close()
	}
	a.try("connect with the revoked identity", err)
	r, err := e.renewal(id.instance, public, key, "")
	if err != nil {
		return err
	}
	_, err = e.do("POST", "/v1/renew", r)
	a.try("renew it", err)
	_, fresh, err := newKey()
	if err != nil {
		return err
	}
	_, err = e.do("POST", "/v1/enrol", map[string]string{"token": e.boot.Token, "public_key": fresh})
	a.try("enrol anew with the own token", err)
	return nil
}
