// Package stores measures servers of etcd's protocol side by side: skiff's face
// over each of its stores next to an etcd, with the same clients, in turns, on
// the same disk. Each measurement is a JSON line, and so is each comparison.
package stores

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"skiff/e2e/bench/figures"
)

// Server is one of those that are compared.
type Server struct {
	// Name in the results. The one named Etcd is what the others are compared to.
	Name string
	// Address is where it serves, as gRPC names it.
	Address string
	// PID is its process. What that started counts too.
	PID int
	// Others are processes that work for it, such as a database's.
	Others []int
	// Dir is where it keeps its data; the size of its files is measured.
	Dir string
}

// Etcd is the name of the server that the others are compared to.
const Etcd = "etcd"

// perConnection is how many clients share a connection.
const perConnection = 16

// Run is one comparison.
type Run struct {
	Servers []Server
	// Rounds is how often each server is measured, in turns; Each is how long.
	Rounds int
	Each   time.Duration
	// ValueBytes is the size of the values.
	ValueBytes int
	// Out takes the JSON lines.
	Out io.Writer
}

// Line is one measurement. The times of the processors are of an operation.
type Line struct {
	Name         string  `json:"name"`
	Server       string  `json:"server"`
	Clients      int     `json:"clients,omitempty"`
	Round        int     `json:"round"`
	Operations   int     `json:"operations"`
	Errors       int     `json:"errors"`
	PerSecond    float64 `json:"perSecond"`
	P50Millis    float64 `json:"p50Millis"`
	P99Millis    float64 `json:"p99Millis"`
	ServerMicros float64 `json:"serverMicros"`
	ClientMicros float64 `json:"clientMicros"`
	// FirstError says what went wrong first.
	FirstError string `json:"firstError,omitempty"`
}

// Ratio compares the medians of a measurement with etcd's.
type Ratio struct {
	Name    string `json:"name"`
	Server  string `json:"server"`
	Clients int    `json:"clients,omitempty"`
	// PerSecond is this server's median.
	PerSecond float64 `json:"perSecond"`
	// TimesEtcd is how many times as many operations a second, and CPUOfEtcd what
	// part of the processors' time for each.
	TimesEtcd float64 `json:"timesEtcd"`
	CPUOfEtcd float64 `json:"cpuOfEtcd"`
}

func (r *Run) print(v any) error { return json.NewEncoder(r.Out).Encode(v) }

// dial opens as many connections as so many clients use.
func dial(address string, clients int) (kv []pb.KVClient, hangUp func() error, err error) {
	var all []*grpc.ClientConn
	hangUp = func() error {
		var errs []error
		for _, c := range all {
			errs = append(errs, c.Close())
		}
		return errors.Join(errs...)
	}
	for range (clients + perConnection - 1) / perConnection {
		c, err := connect(address)
		if err != nil {
			return nil, nil, errors.Join(err, hangUp())
		}
		all = append(all, c)
		kv = append(kv, pb.NewKVClient(c))
	}
	return kv, hangUp, nil
}

// connect connects to a server that may not listen yet: it is tried again all the time, so
// that the pauses between the tries are not measured as the server's start.
func connect(address string) (*grpc.ClientConn, error) {
	const again = 5 * time.Millisecond
	return grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: again, Multiplier: 1, MaxDelay: again}, MinConnectTimeout: time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)))
}

// compare measures every server in every round, and prints the ratios.
func (r *Run) compare(ctx context.Context, name string, clients int, measure func(context.Context, *Server, *Line) error) error {
	lines := map[string][]Line{}
	for round := range r.Rounds {
		for i := range r.Servers {
			s := &r.Servers[i]
			l := Line{Name: name, Server: s.Name, Clients: clients, Round: round + 1}
			if err := r.one(ctx, s, &l, measure); err != nil {
				return fmt.Errorf("%s of %s: %w", name, s.Name, err)
			}
			if err := r.print(l); err != nil {
				return err
			}
			lines[s.Name] = append(lines[s.Name], l)
		}
	}
	for _, s := range r.Servers {
		if s.Name == Etcd || len(lines[Etcd]) == 0 {
			continue
		}
		rate := func(l Line) float64 { return l.PerSecond }
		cpu := func(l Line) float64 { return l.ServerMicros }
		out := Ratio{Name: name, Server: s.Name, Clients: clients, PerSecond: round(median(lines[s.Name], rate))}
		out.TimesEtcd = hundredth(median(lines[s.Name], rate) / median(lines[Etcd], rate))
		out.CPUOfEtcd = hundredth(median(lines[s.Name], cpu) / median(lines[Etcd], cpu))
		if err := r.print(out); err != nil {
			return err
		}
	}
	return nil
}

// one measures one server, and what it and the clients use.
func (r *Run) one(ctx context.Context, s *Server, l *Line, measure func(context.Context, *Server, *Line) error) error {
	server, err := s.cpu()
	if err != nil {
		return err
	}
	client := ownCPU()
	if err := measure(ctx, s, l); err != nil {
		return err
	}
	client = ownCPU() - client
	after, err := s.cpu()
	if err != nil {
		return err
	}
	n := float64(max(l.Operations, 1))
	l.ServerMicros = round(float64((after - server).Microseconds()) / n)
	l.ClientMicros = round(float64(client.Microseconds()) / n)
	return nil
}

// took puts the durations of the operations in the line.
func (l *Line) took(all []time.Duration, whole time.Duration) {
	slices.Sort(all)
	l.Operations = len(all)
	l.PerSecond = round(float64(len(all)) / whole.Seconds())
	l.P50Millis, l.P99Millis = figures.Millis(figures.Percentile(all, 50)), figures.Millis(figures.Percentile(all, 99))
}

// cpu is the time that the server's processes have used.
func (s *Server) cpu() (sum time.Duration, err error) {
	for _, pid := range s.processes() {
		used, err := figures.CPU(pid)
		if err == nil { // else it ended meanwhile, and its parent has its time
			sum += used
		} else if pid == s.PID {
			return 0, fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	return sum, nil
}

// processes are those of the server.
func (s *Server) processes() []int {
	all := figures.Tree(s.PID)
	for _, pid := range s.Others {
		all = append(all, figures.Tree(pid)...)
	}
	return all
}

// ownCPU is the time that this process has used: the clients'.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func median(lines []Line, of func(Line) float64) float64 {
	all := make([]float64, len(lines))
	for i, l := range lines {
		all[i] = of(l)
	}
	slices.Sort(all)
	if len(all) == 0 {
		return math.NaN()
	}
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}

func round(f float64) float64 { return math.Round(f*10) / 10 }

func hundredth(f float64) float64 { return math.Round(f*100) / 100 }
