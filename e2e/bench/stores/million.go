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
	// Seconds are from the process's start to its first answer.
	Seconds float64 `json:"seconds"`
	FileMiB float64 `json:"fileMiB"`
	RSSMiB  float64 `json:"rssMiB"`
	AnonMiB float64 `json:"anonMiB"`
}

// Open fills a server with keys of small values, starts it anew, and measures how
// long it takes to answer, and its memory then. restart stops it and starts it.
func (r *Run) Open(ctx context.Context, s *Server, keys int, restart func() error) error {
	if err := fill(ctx, s, "/registry/many/", keys, 64); err != nil {
		return err
	}
	began := time.Now()
	if err := restart(); err != nil {
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
	o := Opening{Name: "open", Server: s.Name, Keys: keys, Seconds: hundredth(time.Since(began).Seconds()), FileMiB: round(size(s.Dir))}
	if o.RSSMiB, o.AnonMiB, err = figures.Memory(s.PID); err != nil {
		return err
	}
	return r.print(o)
}
