package stores

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"skiff/kine/backend"
	"skiff/kine/etcd/etcdtest"
	"skiff/kine/etcdserver"
)

var (
	measure = flag.String("measure", "", "what to measure, separated by commas: put, range, watch, mixed, churn, crowd, open; nothing without it")
	which   = flag.String("servers", "etcd,sqlite", "which servers: etcd, sqlite, postgres")
	skiff   = flag.String("skiff", "", "the skiff whose `skiff kine` is measured; default this program's own face")
	clients = flag.String("clients", "1,16,256", "how many clients put at a time, one after the other")
	rounds  = flag.Int("rounds", 3, "how often each server is measured, in turns")
	each    = flag.Duration("each", 5*time.Second, "how long each time")
	long    = flag.Duration("long", 10*time.Minute, "how long the mixed traffic and the churn are")
	rate    = flag.Int("rate", 1000, "writes a second of the mixed traffic and the churn; 0 for as many as possible")
	keys    = flag.Int("keys", 1_000_000, "how many keys the measured start has")
	profile = flag.String("profile", "", "a folder for profiles of the processors' time of this program's own face")
)

// servedEnv has the store and the address of the face that a process is.
const servedEnv = "SKIFF_BENCH_FACE"

func TestMain(m *testing.M) {
	etcdtest.Main()
	if text := os.Getenv(servedEnv); text != "" {
		store, address, _ := strings.Cut(text, " ")
		if err := serve(store, address); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// serve is `skiff kine`.
func serve(endpoint, address string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	store, err := backend.New(endpoint, backend.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	face, err := etcdserver.New(etcdserver.Config{Store: store, Listen: []string{address}})
	if err != nil {
		return err
	}
	stopProfile, err := startProfile(os.Getenv(profileEnv))
	if err != nil {
		return err
	}
	defer stopProfile()
	ends := make(chan error, 1)
	go func() { ends <- store.Run(ctx) }()
	select {
	case <-store.Ready():
	case err := <-ends:
		return err
	}
	if err := face.Run(ctx); err != nil {
		return err
	}
	return <-ends
}

// TestCompare measures what -measure names: see `make bench-stores`.
func TestCompare(t *testing.T) {
	if *measure == "" {
		t.Skip("-measure names nothing")
	}
	r := &Run{Rounds: *rounds, Each: *each, ValueBytes: 1024, Out: os.Stdout}
	processes := map[string]*process{}
	for name := range strings.SplitSeq(*which, ",") {
		processes[name] = newProcess(t, name)
	}
	if err := run(t, r, processes); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, r *Run, processes map[string]*process) error {
	ctx := t.Context()
	for what := range strings.SplitSeq(*measure, ",") {
		r.Servers = nil
		for name := range strings.SplitSeq(*which, ",") {
			r.Servers = append(r.Servers, *processes[name].s)
		}
		var err error
		switch what {
		case "put":
			for text := range strings.SplitSeq(*clients, ",") {
				n, perr := strconv.Atoi(text)
				if perr != nil || n < 1 {
					return fmt.Errorf("-clients %q: want numbers such as 1,16,256", *clients)
				}
				err = errors.Join(err, r.Puts(ctx, n))
			}
		case "range":
			err = r.Ranges(ctx)
		case "watch":
			for _, f := range []FanOut{{Watchers: 1000, PerStream: 50, Rate: 1000, Share: 1000}, {Watchers: 1000, PerStream: 50, Rate: 1000, Share: 50}} {
				err = errors.Join(err, r.FanOut(ctx, f))
			}
		case "mixed":
			err = r.Traffic(ctx, Traffic{Name: "mixed", For: *long, Clients: 16, Rate: *rate, Objects: 5000, Watchers: 10, Window: 30 * time.Second, Sample: 10 * time.Second})
		case "churn":
			err = r.Traffic(ctx, Traffic{Name: "churn", For: *long, Clients: 16, Rate: *rate, Objects: 50_000, Watchers: 1, Window: 30 * time.Second, Sample: 30 * time.Second})
		case "crowd":
			err = r.Traffic(ctx, Traffic{Name: "crowd", For: *each, Clients: 1000, Objects: 5000, Watchers: 10, Window: 30 * time.Second, Sample: 10 * time.Second})
		case "open":
			for _, s := range r.Servers {
				p := processes[s.Name]
				err = errors.Join(err, r.Open(ctx, p.s, *keys, p.stop, p.start))
			}
		default:
			err = fmt.Errorf("-measure %q: want put, range, watch, mixed, churn, crowd or open", what)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TestMeasurements runs a little of each measurement against a face.
func TestMeasurements(t *testing.T) {
	p := newProcess(t, "sqlite")
	var out bytes.Buffer
	r := &Run{Servers: []Server{*p.s}, Rounds: 1, Each: 200 * time.Millisecond, ValueBytes: 100, Out: &out}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for name, err := range map[string]error{
		"put":     r.Puts(ctx, 17),
		"range":   r.Ranges(ctx),
		"watch":   r.FanOut(ctx, FanOut{Watchers: 20, PerStream: 6, Rate: 200, Share: 5}),
		"traffic": r.Traffic(ctx, Traffic{Name: "mixed", For: time.Second, Clients: 4, Rate: 400, Objects: 40, Watchers: 2, Window: 200 * time.Millisecond, Sample: 300 * time.Millisecond}),
		"open":    r.Open(ctx, p.s, 1000, p.stop, p.start),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	seen := map[string]int{}
	for line := range strings.Lines(out.String()) {
		var l struct {
			Line
			Expected, Events int64
			Seconds          float64
			FileMiB          float64
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		seen[l.Name]++
		if l.Errors != 0 || l.Events != l.Expected || l.Operations == 0 && l.FileMiB == 0 && l.Expected == 0 {
			t.Errorf("measured %s", line)
		}
	}
	for name, n := range map[string]int{"put": 1, "range of 1": 2, "range of 10000": 2, "watch: 200 events a second, 1 in 5 to each": 1, "mixed": 3, "open": 1} {
		if seen[name] < n {
			t.Errorf("%d lines of %q, want %d at least", seen[name], name, n)
		}
	}
}
