package cri

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"skiff/kubelet/cri/images"
	"skiff/kubelet/cri/shimapi"
)

var errLagging = status.Error(codes.ResourceExhausted, "the subscriber is too far behind; list and subscribe again")

func notFound(kind, id string) error {
	return &codedError{error: fmt.Errorf("%s %q not found", kind, id), code: codes.NotFound}
}

// invalid is no status of gRPC by itself, whose text would tell of gRPC in the midst
// of what a pod's status says.
func invalid(format string, args ...any) error {
	return &codedError{error: fmt.Errorf(format, args...), code: codes.InvalidArgument}
}

// coded gives an error the gRPC code that its cause stands for.
func coded(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	code := codes.Unknown
	switch {
	case errors.Is(err, images.ErrNotFound), errors.Is(err, shimapi.ErrNotFound):
		code = codes.NotFound
	case errors.Is(err, images.ErrInvalid):
		code = codes.InvalidArgument
	case errors.Is(err, context.Canceled):
		code = codes.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		code = codes.DeadlineExceeded
	case errors.Is(err, shimapi.ErrNotRunning):
		code = codes.FailedPrecondition
	}
	return &codedError{error: err, code: code}
}

// codedError keeps the chain of causes, which a status alone would cut.
type codedError struct {
	error
	code codes.Code
}

func (e *codedError) Unwrap() error { return e.error }

// GRPCStatus is how gRPC asks for an error's code.
func (e *codedError) GRPCStatus() *status.Status { return status.New(e.code, e.Error()) }
