package etcdwire

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"skiff/kine"
	"skiff/kine/mvcc"
)

// pairs are the errors that both sides know. The first match counts, so the
// narrow ones come first.
var pairs = []struct {
	kine error
	grpc error
}{
	{mvcc.ErrDuplicateKey, rpctypes.ErrGRPCDuplicateKey},
	{mvcc.ErrTooManyOps, rpctypes.ErrGRPCTooManyOps},
	{kine.ErrCompacted, rpctypes.ErrGRPCCompacted},
	{kine.ErrFutureRevision, rpctypes.ErrGRPCFutureRev},
	{kine.ErrKeyNotFound, rpctypes.ErrGRPCKeyNotFound},
	{kine.ErrLeaseNotFound, rpctypes.ErrGRPCLeaseNotFound},
	{kine.ErrLeaseExists, rpctypes.ErrGRPCLeaseExist},
	{kine.ErrNoSpace, rpctypes.ErrGRPCNoSpace},
	{kine.ErrTooLarge, rpctypes.ErrGRPCRequestTooLarge},
	{kine.ErrStopped, rpctypes.ErrGRPCStopped},
	{kine.ErrUnknownOutcome, rpctypes.ErrGRPCTimeout},
}

// Error encodes the store's error.
func Error(err error) error {
	if err == nil {
		return nil
	}
	for _, p := range pairs {
		if errors.Is(err, p.kine) {
			return p.grpc
		}
	}
	switch {
	case errors.Is(err, kine.ErrInvalid):
		return status.Error(codes.InvalidArgument, "etcdserver: "+err.Error())
	case errors.Is(err, context.Canceled):
		return rpctypes.ErrGRPCCanceled
	case errors.Is(err, context.DeadlineExceeded):
		return rpctypes.ErrGRPCDeadlineExceeded
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.Unavailable, "etcdserver: "+err.Error())
}

// FromError decodes etcd's error. write tells that the request could have
// changed something: then a lost answer means that nobody knows.
func FromError(ctx context.Context, err error, write bool) error {
	if err == nil {
		return nil
	}
	text := rpctypes.ErrorDesc(err)
	for _, p := range pairs {
		if p.kine == kine.ErrUnknownOutcome || p.kine == kine.ErrStopped || rpctypes.ErrorDesc(p.grpc) != text {
			continue
		}
		if p.kine == kine.ErrCompacted {
			return &kine.CompactedError{}
		}
		return fmt.Errorf("%w: %s", p.kine, text)
	}
	switch code := status.Code(rpcError(err)); {
	case text == rpctypes.ErrorDesc(rpctypes.ErrGRPCEmptyKey), code == codes.InvalidArgument:
		return fmt.Errorf("%w: %s", kine.ErrInvalid, text)
	case text == rpctypes.ErrorDesc(rpctypes.ErrGRPCRequestTooManyRequests), text == rpctypes.ErrorDesc(rpctypes.ErrGRPCNoLeader):
		return fmt.Errorf("%w: %w", kine.ErrUnavailable, err)
	case write:
		return fmt.Errorf("%w: %w", kine.ErrUnknownOutcome, err)
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("%w: %w", kine.ErrUnavailable, err)
}

// rpcError is err as gRPC made it.
func rpcError(err error) error {
	var e rpctypes.EtcdError
	if errors.As(err, &e) {
		return status.Error(e.Code(), e.Error())
	}
	return err
}
