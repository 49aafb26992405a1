// Command agent stands in for the guest agent in the tests of package image: it makes a small data directory and looks at the place that it runs in.
package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// mode is set by the linker.
var mode string

func main() {
	if got := strings.Join(os.Args[1:], " "); got != "initialise --engine mariadb" {
		fail("arguments are %q", got)
	}
	switch mode {
	case "broken":
		fail("the system tables could not be made")
	case "hang":
		write("/data/started", "x")
		time.Sleep(time.Hour)
	}
	for _, dir := range []string{"/", "/agent"} {
		if err := os.WriteFile(dir+"/x", nil, 0o600); err == nil {
			fail("%s can be written", dir)
		}
	}
	links, err := net.Interfaces()
	if err != nil || len(links) != 1 || links[0].Flags&net.FlagUp != 0 {
		fail("network: %v, %v", links, err)
	}
	if text, err := os.ReadFile("/proc/self/stat"); err != nil || len(text) == 0 {
		fail("proc: %v", err)
	}
	write("/dev/null", "x")
	write("/run/x", "x")
	write("/tmp/x", "x")
	mkdir("/data/mysql")
	mkdir("/data/trove")
	write("/data/trove/identity", "x")
	write("/data/mysql/table", "rows")
	if err := os.Chown("/data/mysql/table", 990, 990); err != nil {
		fail("%v", err)
	}
}

func write(path, text string) {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		fail("%v", err)
	}
}

func mkdir(path string) {
	if err := os.Mkdir(path, 0o700); err != nil {
		fail("%v", err)
	}
}

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}
