package machine_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trove-dbaas/trove/guestagent/machine"
	"github.com/trove-dbaas/trove/internal/machinedata"
	"github.com/trove-dbaas/trove/internal/netns"
)

const managementNetns = "/run/netns/management"

func (g *guest) place() string {
	if g.within == "" {
		return ""
	}
	return filepath.Base(g.within) + ": "
}

func (g *guest) Namespace(path string) error {
	g.write(strings.TrimPrefix(path, g.root), "")
	return nil
}

func (g *guest) Within(path string, do func() error) error {
	if _, err := os.Stat(path); err != nil {
		return err
	}
	g.within = path
	defer func() { g.within = "" }()
	return do()
}

func (g *guest) Links() (map[string]string, error) {
	if g.within != "" {
		return g.moved, nil
	}
	files, err := filepath.Glob(g.path("sys/class/net/*/address"))
	names := map[string]string{}
	for _, f := range files {
		mac, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		names[strings.TrimSpace(string(mac))] = filepath.Base(filepath.Dir(f))
	}
	return names, err
}

// moveLinks does what ip does with interfaces that change their namespace.
func (g *guest) moveLinks(batch string) {
	for line := range strings.Lines(batch) {
		var name, to string
		if n, _ := fmt.Sscanf(line, "link set dev %s netns %s", &name, &to); n != 2 {
			continue
		}
		dir := "sys/class/net/" + name
		g.moved[strings.TrimSpace(g.read(dir+"/address"))] = name
		if err := os.RemoveAll(g.path(dir)); err != nil {
			g.t.Fatal(err)
		}
	}
}

const (
	managementLines = `link set dev eth1 up
addr replace 10.77.0.23/24 dev eth1
route replace 10.9.0.0/24 via 10.77.0.1 dev eth1
`
	userLines = `link set dev eth0 up
addr replace 10.1.0.9/24 dev eth0
addr replace fd00::9/64 dev eth0 nodad
route replace 0.0.0.0/0 via 10.1.0.1 dev eth0
route replace ::/0 via fd00::1 dev eth0
`
	managementDefault = "route replace 0.0.0.0/0 via 10.77.0.1 dev eth1\n" // where nothing else is
	up                = "link set dev lo up\n"
)

func TestNetwork(t *testing.T) {
	g := newGuest(t)
	const move = "link set dev eth1 netns " + managementNetns + "\n"
	for i, moved := range []string{move, ""} { // the second time the interface is there
		if err := g.run(); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"ip": moved + up + userLines, "management: ip": up + managementLines + managementDefault}
		got := map[string]string{"ip": g.stdin["ip"], "management: ip": g.stdin["management: ip"]}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("run %d (-want +got):\n%s", i+1, diff)
		}
	}
	g = newGuest(t)
	g.data.IsolateManagement = false
	if err := g.run(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(up+managementLines+userLines, g.stdin["ip"]); diff != "" {
		t.Errorf("not isolated (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(g.path(managementNetns)); err == nil || len(g.moved) > 0 {
		t.Errorf("not isolated, and there is a namespace with %v", g.moved)
	}
}

// What holds for all interfaces in the kernel's files holds for those that are there already only with their own.
func TestNoInterfaceAcceptsOrSendsRedirects(t *testing.T) {
	g := newGuest(t)
	files := []string{"ipv4/conf/%s/accept_redirects", "ipv4/conf/%s/send_redirects", "ipv6/conf/%s/accept_redirects", "ipv6/conf/%s/accept_ra"}
	for _, link := range []string{"eth0", "eth1"} {
		for _, f := range files {
			g.write("proc/sys/net/"+fmt.Sprintf(f, link), "1")
		}
	}
	if err := g.run(); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{"eth0", "eth1"} {
		for _, f := range files {
			if name := fmt.Sprintf(f, link); g.read("proc/sys/net/"+name) != "0" {
				t.Errorf("%s is %q", name, g.read("proc/sys/net/"+name))
			}
		}
	}
}

// A tenant may delete the ports in a network of his own, and Nova takes the interface away with them.
func TestAMachineStartsWithoutAnInterfaceOfItsClients(t *testing.T) {
	for _, isolated := range []bool{true, false} {
		g := newGuest(t)
		g.data.IsolateManagement = isolated
		if err := os.RemoveAll(g.path("sys/class/net/eth0")); err != nil {
			t.Fatal(err)
		}
		if err := g.run(); err != nil {
			t.Fatalf("isolated %t: %v", isolated, err)
		}
		if all := g.stdin["ip"] + g.stdin["management: ip"]; !strings.Contains(all, managementLines) || strings.Contains(all, "eth0") {
			t.Errorf("isolated %t: ip was told:\n%s", isolated, all)
		}
		if want := "going on without a network of the database's clients: there is no interface with the hardware address fa:16:3e:00:00:02\n"; !strings.Contains(g.console.String(), want) {
			t.Errorf("isolated %t: the console has no %q:\n%s", isolated, want, &g.console)
		}
		if boot := g.read("config/boot.json"); !strings.Contains(boot, token) {
			t.Errorf("isolated %t: the boot data is %s", isolated, boot)
		}
	}
}

// What a tenant says of routes in his subnet Neutron takes as it is: one by the broadcast address, for example, which the kernel refuses.
func TestAMachineStartsThoughTheKernelRefusesARouteOfItsClients(t *testing.T) {
	w := wire(t)
	w.data.Interfaces[1].Routes = []machinedata.Route{{To: "10.8.0.0/24", Via: "10.1.0.255"}}
	w.start()
	w.listen(w.controllers, "10.77.0.1:4222")
	w.listen(w.vm, "0.0.0.0:3306")
	w.reaches(true, "the agent to the bus", w.management(), "10.77.0.1:4222")
	w.reaches(true, "a client to the database", w.clients, "10.1.0.9:3306")
	if want := "going on with what could be set of the network of the database's clients: "; !strings.Contains(w.console.String(), want) {
		t.Errorf("the console has no %q:\n%s", want, &w.console)
	}
}

// After the network's MTU was lowered, the user data of before asks for more than the device takes.
func TestAMachineStartsOnANetworkWhoseMTUWasLowered(t *testing.T) {
	g := newGuest(t)
	g.fail = "ip link set dev eth0 mtu 1450"
	if err := g.run(); err != nil || g.stdin["ip"] == "" {
		t.Fatalf("%v, ip was told:\n%s", err, g.stdin["ip"])
	}
	if want := "the MTU of eth0 is not set to 1450, it stays as it is: "; !strings.Contains(g.console.String(), want) {
		t.Errorf("the console has no %q:\n%s", want, &g.console)
	}
	if !slices.Contains(g.ran, "management: ip link set dev eth1 mtu 1500") {
		t.Errorf("ran %q", g.ran)
	}
}

func TestAGatewayOutsideTheSubnetIsReached(t *testing.T) {
	for name, c := range map[string]struct{ address, gateway, want string }{
		"link-local": {"2001:db8::9/64", "fe80::1", "route replace ::/0 via fe80::1 dev eth0 onlink\n"},
		"IPv4":       {"10.1.0.9/32", "198.51.100.1", "route replace 0.0.0.0/0 via 198.51.100.1 dev eth0 onlink\n"},
		"IPv6":       {"2001:db8::9/128", "2001:db8:1::1", "route replace ::/0 via 2001:db8:1::1 dev eth0 onlink\n"},
	} {
		t.Run(name, func(t *testing.T) {
			change := func(g *guest) {
				i := &g.data.Interfaces[1]
				i.Addresses, i.Gateway, i.Gateway6 = []string{c.address}, c.gateway, ""
			}
			g := newGuest(t)
			change(g)
			if err := g.run(); err != nil || !strings.HasSuffix(g.stdin["ip"], c.want) {
				t.Errorf("%v, ip was told:\n%s", err, g.stdin["ip"])
			}
			w := wire(t)
			change(w.guest)
			w.start() // what a kernel says to it
		})
	}
}

// A management network may be routed over a gateway outside its subnet too.
func TestARouteToTheControllersViaALinkLocalGateway(t *testing.T) {
	change := func(g *guest) {
		g.data.Interfaces[0].Addresses = []string{"fd00:77::23/64"}
		g.data.Interfaces[0].Routes = []machinedata.Route{{To: "fd00:9::1/128", Via: "fe80::1"}}
	}
	g := newGuest(t)
	change(g)
	const want = "route replace fd00:9::1/128 via fe80::1 dev eth1 onlink\n"
	if err := g.run(); err != nil || !strings.Contains(g.stdin["management: ip"], want) {
		t.Errorf("%v, ip was told:\n%s", err, g.stdin["management: ip"])
	}
	w := wire(t)
	change(w.guest)
	w.start()
}

// The rules are what nft takes, in a network namespace of its own.
func TestRulesAreRules(t *testing.T) {
	for _, isolated := range []bool{true, false} {
		g := newGuest(t)
		g.data.IsolateManagement = isolated
		if err := g.run(); err != nil {
			t.Fatal(err)
		}
		here, apart := g.stdin["nft"], g.stdin["management: nft"]
		if strings.Contains(here, "eth1") == isolated || (apart != "") != isolated || !isolated && !strings.Contains(here, "ip daddr 10.77.0.23 drop") {
			t.Errorf("isolated %t:\n%s\nand in its namespace:\n%s", isolated, here, apart)
		}
		if !strings.Contains(here, "ip daddr 169.254.169.254 reject") {
			t.Errorf("the metadata is open:\n%s", here)
		}
		if _, err := exec.LookPath("nft"); err != nil || os.Getuid() != 0 {
			t.Skip("needs root and nft")
		}
		for _, rules := range []string{here, apart} {
			cmd := exec.CommandContext(t.Context(), "unshare", "--net", "nft", "-f", "-")
			cmd.Stdin = strings.NewReader(rules + rules) // a second time replaces the first
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("nft: %v: %s", err, out)
			}
		}
	}
}

const patience = time.Minute // how long a test waits for what must come

// wired is a guest whose network is real: it is in a network namespace, with a cable to the controllers and one to its clients.
type wired struct {
	*guest
	real                     machine.Kernel
	vm, controllers, clients string // namespaces
}

func (w *wired) Run(ctx context.Context, stdin, program string, args ...string) error {
	if program == "ip" || program == "nft" {
		return w.real.Run(ctx, stdin, program, args...)
	}
	return w.guest.Run(ctx, stdin, program, args...)
}

func (w *wired) Namespace(path string) error               { return w.real.Namespace(path) }
func (w *wired) Within(path string, do func() error) error { return w.real.Within(path, do) }
func (w *wired) Links() (map[string]string, error)         { return w.real.Links() }
func (w *wired) dial(ns, address string, limit time.Duration) (net.Conn, error) {
	return netns.Dialer(ns, net.Dialer{Timeout: limit})(w.t.Context(), "tcp", address)
}
func (w *wired) management() string { return w.path(managementNetns) }

func wire(t *testing.T) *wired {
	for _, program := range []string{"nft", "ip"} {
		if _, err := exec.LookPath(program); err != nil || os.Getuid() != 0 {
			t.Skip("needs root, nft and ip")
		}
	}
	g := newGuest(t)
	w := &wired{guest: g, real: machine.Real(), vm: g.path("vm"), controllers: g.path("controllers"), clients: g.path("clients")}
	for _, ns := range []string{w.vm, w.controllers, w.clients} {
		if err := netns.Make(ns, nil); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, ns := range []string{w.management(), w.vm, w.controllers, w.clients} {
			if err := netns.Remove(ns); err != nil {
				t.Error(err)
			}
		}
	})
	w.in(w.vm, "link add eth1 address fa:16:3e:00:00:01 type veth peer name cable netns "+w.controllers)
	w.in(w.vm, "link add eth0 address fa:16:3e:00:00:02 type veth peer name cable netns "+w.clients)
	for ns, lines := range map[string][]string{
		// Both would send to the guest whatever may get through it.
		w.controllers: {"addr add 10.77.0.1/24 dev cable", "link set cable up", "link set lo up", "route add 10.1.0.0/24 via 10.77.0.23"},
		w.clients:     {"addr add 10.1.0.1/24 dev cable", "link set cable up", "link set lo up", "route add 10.77.0.0/24 via 10.1.0.9"},
	} {
		for _, line := range lines {
			w.in(ns, line)
		}
	}
	return w
}

// in runs ip in a namespace.
func (w *wired) in(ns, line string) {
	w.t.Helper()
	if err := netns.Do(ns, func() error { return w.real.Run(w.t.Context(), "", "ip", strings.Fields(line)...) }); err != nil {
		w.t.Fatal(err)
	}
}

func (w *wired) start() {
	w.t.Helper()
	cfg := w.config()
	cfg.Kernel = w
	if err := netns.Do(w.vm, func() error { return machine.Run(w.t.Context(), cfg) }); err != nil {
		w.t.Fatalf("%v\n%s", err, &w.console)
	}
}

func (w *wired) listen(ns, address string) net.Listener {
	w.t.Helper()
	var l net.Listener
	err := netns.Do(ns, func() (err error) {
		l, err = (&net.ListenConfig{}).Listen(w.t.Context(), "tcp4", address)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = l.Close() })
	return l
}

func (w *wired) reaches(want bool, what, from, address string) {
	w.t.Helper()
	limit := time.Second // nothing comes back
	if want {
		limit = patience
	}
	conn, err := w.dial(from, address, limit)
	if err == nil {
		conn.Close()
	}
	if (err == nil) != want {
		w.t.Errorf("%s: %s was reached: %t (%v), want %t", what, address, err == nil, err, want)
	}
}

func TestManagementIsApart(t *testing.T) {
	w := wire(t)
	w.start()
	bus := w.listen(w.controllers, "10.77.0.1:4222")
	database := w.listen(w.vm, "0.0.0.0:3306") // an engine that listens wherever it can
	w.listen(w.management(), "10.77.0.23:9999")

	w.reaches(true, "the agent to the bus", w.management(), "10.77.0.1:4222")
	w.reaches(false, "root's programs to the bus", w.vm, "10.77.0.1:4222")
	w.reaches(true, "a client to the database", w.clients, "10.1.0.9:3306")
	w.reaches(false, "the management network to the database", w.controllers, "10.77.0.23:3306")
	w.reaches(false, "the management network to the database's own address", w.controllers, "10.1.0.9:3306")
	w.reaches(false, "the management network to the agent", w.controllers, "10.77.0.23:9999")
	w.reaches(false, "a client to the controllers, through the guest", w.clients, "10.77.0.1:4222")
	w.reaches(false, "a client to the agent", w.clients, "10.77.0.23:9999")

	links := map[string]string{}
	if err := netns.Do(w.vm, func() (err error) { links, err = w.real.Links(); return err }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"": "lo", "fa:16:3e:00:00:02": "eth0"}, links); diff != "" {
		t.Errorf("interfaces that the engine has (-want +got):\n%s", diff)
	}

	// Run again, as after a failure: what the agent has open goes on.
	conn, err := w.dial(w.management(), "10.77.0.1:4222", patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	w.start()
	if _, err := conn.Write([]byte("still here")); err != nil {
		t.Fatal(err)
	}
	wantHeard(t, bus, "still here")
	w.reaches(true, "the agent to the bus, after a second run", w.management(), "10.77.0.1:4222")
	w.reaches(true, "a client to the database, after a second run", w.clients, "10.1.0.9:3306")
	_ = database.Close()
}

// wantHeard takes connections until one says the text; the others were closed without a word.
func wantHeard(t *testing.T, l net.Listener, text string) {
	t.Helper()
	if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			t.Fatalf("nobody said %q: %v", text, err)
		}
		heard := make([]byte, len(text))
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		n, _ := io.ReadFull(conn, heard) // a connection without a word ends at once
		conn.Close()
		if string(heard[:n]) == text {
			return
		}
	}
}

// The user data names the controllers of the day that the machine was made. A later one is behind the router too, and in no route.
func TestTheAgentReachesAControllerThatWasAddedBehindTheRouter(t *testing.T) {
	w := wire(t)
	w.in(w.controllers, "addr add 192.0.2.7/32 dev lo")
	w.start()
	w.listen(w.controllers, "192.0.2.7:4222")
	w.reaches(true, "the agent to the new controller", w.management(), "192.0.2.7:4222")
	w.reaches(false, "root's programs to the new controller", w.vm, "192.0.2.7:4222")

	// Of a management network without a router nothing leads anywhere else.
	g := newGuest(t)
	g.data.Interfaces[0].Routes = nil
	if err := g.run(); err != nil || strings.Contains(g.stdin["management: ip"], "route") {
		t.Errorf("%v, ip was told:\n%s", err, g.stdin["management: ip"])
	}
	// Of both families each has its own router.
	g = newGuest(t)
	m := &g.data.Interfaces[0]
	m.Addresses = append(m.Addresses, "fd00:77::23/64")
	m.Routes = append(m.Routes, machinedata.Route{To: "10.8.0.0/24", Via: "10.77.0.2"}, machinedata.Route{To: "fd00:9::/64", Via: "fd00:77::1"})
	const want = "dev eth1\nroute replace 0.0.0.0/0 via 10.77.0.1 dev eth1\nroute replace ::/0 via fd00:77::1 dev eth1\n"
	if err := g.run(); err != nil || !strings.HasSuffix(g.stdin["management: ip"], want) {
		t.Errorf("%v, ip was told:\n%s", err, g.stdin["management: ip"])
	}
}

// Whatever gets into the namespace of the management network, only root's connections leave it.
func TestOnlyRootLeavesTheManagementNetwork(t *testing.T) {
	w := wire(t)
	w.start()
	w.listen(w.controllers, "10.77.0.1:4222")
	for uid, want := range map[uint32]bool{0: true, 65534: false} {
		cmd := exec.CommandContext(t.Context(), "bash", "-c", "exec 3<>/dev/tcp/10.77.0.1/4222")
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		var out []byte
		err := netns.Do(w.management(), func() (err error) { out, err = cmd.CombinedOutput(); return err })
		if (err == nil) != want {
			t.Errorf("the account %d: %v %s", uid, err, out)
		}
	}
	err := netns.Do(w.management(), func() error {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "udp", "10.77.0.1:53")
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write([]byte("?"))
		return err
	})
	if err == nil {
		t.Error("UDP leaves")
	}
}
