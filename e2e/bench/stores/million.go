package stores

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"skiff/e2e/bench/figures"
)

// Opening is how a server starts with many keys.
type Opening struct {
	Name   string `json:"name"`
	Server string `json:"server"`
	Keys   int    `json:"keys"`
	// StopSeconds are what the old process took to end, and Seconds are from the new
	// one's start to its first answer.
	StopSeconds float64 `json:"stopSeconds"`
	Seconds     float64 `json:"seconds"`
	// CPUSeconds are the processors' time until then, which other work does not add to.
	CPUSeconds float64 `json:"cpuSeconds"`
	FileMiB    float64 `json:"fileMiB"`
	RSSMiB     float64 `json:"rssMiB"`
	AnonMiB    float64 `json:"anonMiB"`
}

// Open fills a server with keys of small values, starts it anew, and measures how
// long it takes to answer, and its memory then.
func (r *Run) Open(ctx context.Context, s *Server, keys int, stop func(), start func() error) error {
	if err := fill(ctx, s, "/registry/many/", keys, 64); err != nil {
		return err
	}
	ends := time.Now()
	stop()
	began := time.Now()
	if err := start(); err != nil {
		return err
	}
	c, err := connect(s.Address)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = pb.NewKVClient(c).Range(ctx, &pb.RangeRequest{Key: []byte("/registry/many/00000000")}, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	o := Opening{Name: "open", Server: s.Name, Keys: keys, StopSeconds: hundredth(began.Sub(ends).Seconds()), Seconds: hundredth(time.Since(began).Seconds()), FileMiB: round(size(s.Dir))}
	cpu, err := figures.CPU(s.PID)
	if err != nil {
		return err
	}
	o.CPUSeconds = hundredth(cpu.Seconds())
	if o.RSSMiB, o.AnonMiB, err = figures.Memory(s.PID); err != nil {
		return err
	}
	o.RSSMiB, o.AnonMiB = round(o.RSSMiB), round(o.AnonMiB)
	return r.print(o)
}
