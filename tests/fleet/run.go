package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The limits that the fleet must keep.
const (
	maxCore      = 0.25  // of one core, by the controllers, for heartbeats of 10,000 guests every 10 s
	maxPerGuest  = 60    // KiB that a connected guest costs the controllers at rest
	minRate      = 30000 // heartbeats a second that one core of controllers consumes
	grace        = 5 * time.Second
	children     = 4
	limitGuests  = 2000
	storm        = 3 * time.Minute // in which all must be back after a restart
	settle       = 15 * time.Second
	measured     = time.Minute
	floodSeconds = 60
)

// child is another process of this program that answers questions.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func spawn(ctx context.Context, o options, role string, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args = append([]string{
		"-role", role, "-dir", o.dir, "-listen", o.listen, "-interval", o.interval.String(), "-jitter", o.jitter.String(),
		"-limits", strconv.Itoa(o.limits), "-procs", strconv.Itoa(o.procs), "-profile", o.profile,
	}, args...)
	c := &child{cmd: exec.CommandContext(ctx, self, args...)}
	if c.cmd.Stderr, err = os.OpenFile(filepath.Join(filepath.Dir(o.dir), "fleet-"+role+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewScanner(out)
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	return c, c.cmd.Start()
}

func ask[T any](c *child, question string) (T, error) {
	var answer T
	if question != "" {
		if _, err := fmt.Fprintln(c.in, question); err != nil {
			return answer, err
		}
	}
	if !c.out.Scan() {
		return answer, fmt.Errorf("the child process ended: %w", errors.Join(c.out.Err(), c.cmd.Wait()))
	}
	return answer, json.Unmarshal(c.out.Bytes(), &answer)
}

func (c *child) end() {
	_ = c.in.Close()
	_ = c.cmd.Wait()
}

// fleet is the controllers and the crowds of guests.
type fleet struct {
	options
	controllers *child
	crowds      []*child
	flooder     *child // in a process of its own: its neighbours in the same one would be late by its doing
	failures    []string
}

func run(ctx context.Context, o options) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	if err := os.RemoveAll(o.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(o.dir) }()
	f := &fleet{options: o}
	defer f.end()
	parts := map[string]func(context.Context) error{"rest": f.rest, "misbehaving": f.misbehaving, "restart": f.restart, "limit": f.limit}
	for name := range strings.SplitSeq(o.parts, ",") {
		part := parts[name]
		if part == nil {
			return fmt.Errorf("there is no part %q", name)
		}
		if err := part(ctx); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, s := range f.failures {
		fmt.Fprintln(os.Stdout, "\nNOT KEPT: "+s)
	}
	if len(f.failures) > 0 {
		return fmt.Errorf("%d limits were not kept", len(f.failures))
	}
	return nil
}

func (f *fleet) end() {
	for _, c := range f.crowds {
		c.end()
	}
	f.crowds = nil
	if f.flooder != nil {
		f.flooder.end()
		f.flooder = nil
	}
	if f.controllers != nil {
		f.controllers.end()
		f.controllers = nil
	}
}

func (f *fleet) must(kept bool, format string, args ...any) {
	if !kept {
		f.failures = append(f.failures, fmt.Sprintf(format, args...))
	}
}

func (f *fleet) control(ctx context.Context) (err error) {
	if f.controllers, err = spawn(ctx, f.options, "control", "-guests", strconv.Itoa(f.guests+1)); err != nil {
		return err
	}
	_, err = ask[figures](f.controllers, "")
	return err
}

func (f *fleet) figures(question string) (figures, error) {
	return ask[figures](f.controllers, question)
}

func (f *fleet) join(ctx context.Context) error {
	each := f.guests / children
	for n := range children {
		c, err := spawn(ctx, f.options, "guests", "-from", strconv.Itoa(n*each), "-guests", strconv.Itoa(each))
		if err != nil {
			return err
		}
		f.crowds = append(f.crowds, c)
	}
	return nil
}

func (f *fleet) crowd(question string) (crowd, error) {
	var sum crowd
	for _, c := range f.crowds {
		one, err := ask[crowd](c, question)
		if err != nil {
			return sum, err
		}
		sum.Guests += one.Guests
		sum.Connected += one.Connected
		sum.Connects += one.Connects
		sum.Sent += one.Sent
		sum.RSS += one.RSS
	}
	return sum, nil
}

// connected waits until so many guests are connected and returns how long it took.
func (f *fleet) connected(ctx context.Context, want int, limit time.Duration) (time.Duration, error) {
	start := time.Now()
	for {
		c, err := f.crowd("crowd")
		switch {
		case err != nil:
			return 0, err
		case c.Connected >= want:
			return time.Since(start), nil
		case time.Since(start) > limit || ctx.Err() != nil:
			return 0, fmt.Errorf("waited %s for %d guests to be connected; %d are", limit, want, c.Connected)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// rest measures a fleet at rest.
func (f *fleet) rest(ctx context.Context) error {
	if err := f.control(ctx); err != nil {
		return err
	}
	empty, err := f.figures("rest")
	if err != nil {
		return err
	}
	if err := f.join(ctx); err != nil {
		return err
	}
	took, err := f.connected(ctx, f.guests, storm)
	if err != nil {
		return err
	}
	fresh, err := f.figures("figures")
	if err != nil {
		return err
	}
	time.Sleep(settle)
	before, err := f.figures("rest")
	if err != nil {
		return err
	}
	start := time.Now()
	time.Sleep(measured)
	after, err := f.figures("figures")
	if err != nil {
		return err
	}
	core := (after.CPU - before.CPU) / time.Since(start).Seconds()
	perGuest := float64(before.RSS-empty.RSS) / float64(f.guests) / 1024
	out("| %d guests at rest, a heartbeat every %s | limit | measured |", f.guests, f.interval)
	out("| --- | --- | --- |")
	out("| the overdue one among them renewed its credential, all connected after | – | %.1f s |", took.Seconds())
	out("| heartbeats received | – | %.0f/s |", (after.Received-before.Received)/measured.Seconds())
	out("| broker, conductor and store: of one core | %.0f %% | %.1f %% |", maxCore*100, core*100)
	out("| memory per guest, after a collection | %d KiB | %.1f KiB |", maxPerGuest, perGuest)
	out("| resident: without guests, just after all came, at rest | – | %d, %d, %d MiB |", empty.RSS>>20, fresh.RSS>>20, before.RSS>>20)
	out("")
	f.must(core <= maxCore, "heartbeats took %.1f %% of a core", core*100)
	f.must(perGuest <= maxPerGuest, "a guest takes %.1f KiB", perGuest)
	f.must(after.Dropped == 0, "%.0f reports were dropped", after.Dropped)
	return nil
}

// misbehaving has a guest that is revoked and comes again and again, and one that floods: the others' heartbeats are on time.
func (f *fleet) misbehaving(ctx context.Context) (err error) {
	const revoked = 3 // one of the first child's guests
	if _, err := f.figures("revoke " + strconv.Itoa(revoked)); err != nil {
		return err
	}
	if f.flooder, err = spawn(ctx, f.options, "guests", "-from", strconv.Itoa(f.guests), "-guests", "1"); err != nil {
		return err
	}
	if _, err := ask[crowd](f.flooder, fmt.Sprintf("flood %d %d", f.guests, floodSeconds)); err != nil {
		return err
	}
	worst, asked := 0, 0
	question := fmt.Sprintf("late %.0f", (f.interval + grace).Seconds())
	var last figures
	for end := time.Now().Add(floodSeconds*time.Second + f.interval); time.Now().Before(end); time.Sleep(time.Second) {
		var err error
		if last, err = f.figures(question); err != nil {
			return err
		}
		worst, asked = max(worst, last.Late), asked+1
	}
	out("| a revoked guest that keeps coming and one that floods for %d s, among %d | limit | measured |", floodSeconds, f.guests)
	out("| --- | --- | --- |")
	out("| other guests whose heartbeat was more than %s late, at worst in %d looks | 0 | %d |", grace, asked, max(0, worst-2))
	out("| reports of the flooding guest refused; reports lost because the reader was too slow | –; 0 | %.0f; %.0f |", last.Refused, last.Dropped)
	out("| connections cut; keys revoked, the first one by hand | – | %.0f; %d |", last.Kicks, last.Revoked)
	out("")
	f.must(worst <= 2, "%d guests beside the two were late", worst-2)
	f.must(last.Dropped == 0, "%.0f reports were dropped, or connections of controllers cut, beside the flood", last.Dropped)
	f.must(last.Kicks > 0 && last.Revoked == 2, "%.0f connections of the flooding guest were cut and %d keys are revoked", last.Kicks, last.Revoked)
	return nil
}

// restart kills the controllers and starts them again: all guests come back by themselves.
func (f *fleet) restart(ctx context.Context) error {
	if err := f.controllers.cmd.Process.Kill(); err != nil {
		return err
	}
	_ = f.controllers.cmd.Wait()
	time.Sleep(time.Second)
	start := time.Now()
	if err := f.control(ctx); err != nil {
		return err
	}
	up := time.Since(start)
	if _, err := f.connected(ctx, f.guests-1, storm); err != nil {
		return err
	}
	took := time.Since(start)
	after, err := f.figures("figures")
	if err != nil {
		return err
	}
	out("| controllers killed and started again under %d guests, jitter %s | limit | measured |", f.guests, f.jitter)
	out("| --- | --- | --- |")
	out("| controllers up after | – | %.2f s |", up.Seconds())
	out("| all guests but the revoked ones connected after | %.0f s | %.1f s |", storm.Seconds(), took.Seconds())
	out("| processor time of the controllers until then | – | %.1f s |", after.CPU)
	out("")
	return nil
}

// limit measures how many heartbeats a second one core of controllers consumes: guests of a new fleet that send as many as are taken.
func (f *fleet) limit(ctx context.Context) error {
	f.end()
	f.guests, f.interval, f.limits, f.procs, f.jitter = limitGuests, 0, 1000, 1, time.Second
	f.dir += "-limit"
	f.listen = nextPort(f.listen)
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return err
	}
	defer func() {
		f.end() // who still runs there needs it
		_ = os.RemoveAll(f.dir)
	}()
	if err := f.control(ctx); err != nil {
		return err
	}
	if err := f.join(ctx); err != nil {
		return err
	}
	if _, err := f.connected(ctx, f.guests, storm); err != nil {
		return err
	}
	best, table := 0.0, [][4]float64{}
	for _, rate := range []int{10000, 20000, 30000, 40000, 50000, 60000} {
		interval := time.Duration(float64(f.guests) / float64(rate) * float64(time.Second))
		if _, err := f.crowd("interval " + interval.String()); err != nil {
			return err
		}
		time.Sleep(3 * time.Second)
		before, err := f.figures("figures")
		if err != nil {
			return err
		}
		start := time.Now()
		time.Sleep(10 * time.Second)
		after, err := f.figures("figures")
		if err != nil {
			return err
		}
		seconds := time.Since(start).Seconds()
		got, dropped, core := (after.Received-before.Received)/seconds, after.Dropped-before.Dropped, (after.CPU-before.CPU)/seconds
		table = append(table, [4]float64{float64(rate), got, core, dropped})
		if dropped == 0 {
			best = max(best, got/max(core, 0.01))
		}
	}
	out("| heartbeats at the limit: %d guests, GOMAXPROCS=1 | received/s | of one core | per core and second | dropped |", f.guests)
	out("| --- | --- | --- | --- | --- |")
	for _, row := range table {
		out("| %.0f/s sent | %.0f | %.0f %% | %.0f | %.0f |", row[0], row[1], row[2]*100, row[1]/max(row[2], 0.01), row[3])
	}
	out("")
	f.must(best >= minRate, "a core consumed %.0f heartbeats/s", best)
	return nil
}

func nextPort(address string) string {
	// Not the same port: connections of the first fleet linger there.
	return address[:len(address)-5] + strconv.Itoa(25000+rand.IntN(1000))
}

func out(format string, args ...any) { fmt.Fprintf(os.Stdout, format+"\n", args...) }
