// Package imagearchive takes archives of images into a running node's store and
// out of it, over the socket that its CRI is served on: the CRI itself has no
// calls for that. Its service is made of well-known protobuf types:
//
//	service skiff.images.v1.Archives {
//	  rpc Import(stream google.protobuf.BytesValue) returns (google.protobuf.ListValue); // names
//	  rpc Export(google.protobuf.ListValue) returns (stream google.protobuf.BytesValue);
//	}
package imagearchive

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	service = "skiff.images.v1.Archives"
	// pinnedKey is the metadata that pins what is imported.
	pinnedKey = "pinned"
	// chunk is the size of a message in bytes.
	chunk = 1 << 20
)

// Store is what the service does.
type Store interface {
	// ImportImages returns the names of the images of an archive.
	ImportImages(ctx context.Context, r io.Reader, pinned bool) ([]string, error)
	// ExportImages writes one archive of the named images.
	ExportImages(w io.Writer, names []string) error
}

// Register adds the service to a server.
func Register(s *grpc.Server, store Store) {
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: service,
		HandlerType: (*Store)(nil),
		Streams: []grpc.StreamDesc{
			{StreamName: "Import", ClientStreams: true, Handler: serveImport},
			{StreamName: "Export", ServerStreams: true, Handler: serveExport},
		},
	}, store)
}

func serveImport(srv any, stream grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	pinned := len(md.Get(pinnedKey)) > 0
	names, err := srv.(Store).ImportImages(stream.Context(), &reader{next: stream.RecvMsg}, pinned)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return stream.SendMsg(listOf(names))
}

func serveExport(srv any, stream grpc.ServerStream) error {
	var names structpb.ListValue
	if err := stream.RecvMsg(&names); err != nil {
		return err
	}
	if err := srv.(Store).ExportImages(writer{stream.SendMsg}, stringsOf(&names)); err != nil {
		return status.Error(codes.NotFound, err.Error())
	}
	return nil
}

// Import sends an archive and returns the names of its images.
func Import(ctx context.Context, conn grpc.ClientConnInterface, r io.Reader, pinned bool) ([]string, error) {
	if pinned {
		ctx = metadata.AppendToOutgoingContext(ctx, pinnedKey, "true")
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, "/"+service+"/Import")
	if err != nil {
		return nil, err
	}
	// A refusal ends the stream: its reason comes with the answer.
	if _, err := io.CopyBuffer(onlyWriter{writer{stream.SendMsg}}, r, make([]byte, chunk)); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	var names structpb.ListValue
	if err := stream.RecvMsg(&names); err != nil {
		return nil, plain(err)
	}
	return stringsOf(&names), nil
}

// Export writes an archive of the named images.
func Export(ctx context.Context, conn grpc.ClientConnInterface, w io.Writer, names []string) error {
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/"+service+"/Export")
	if err != nil {
		return err
	}
	if err := stream.SendMsg(listOf(names)); err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	_, err = io.Copy(w, &reader{next: stream.RecvMsg})
	return plain(err)
}

// plain is the reason that the server gave.
func plain(err error) error {
	if s, ok := status.FromError(err); ok && err != nil {
		return errors.New(s.Message())
	}
	return err
}

// reader reads the messages of a stream.
type reader struct {
	next func(any) error
	left []byte
}

func (r *reader) Read(b []byte) (int, error) {
	for len(r.left) == 0 {
		var m wrapperspb.BytesValue
		if err := r.next(&m); err != nil {
			return 0, err
		}
		r.left = m.Value
	}
	n := copy(b, r.left)
	r.left = r.left[n:]
	return n, nil
}

// writer writes messages of a stream.
type writer struct{ send func(any) error }

func (w writer) Write(b []byte) (int, error) {
	for sent := 0; sent < len(b); {
		part := b[sent:min(len(b), sent+chunk)]
		if err := w.send(wrapperspb.Bytes(part)); err != nil {
			return sent, err
		}
		sent += len(part)
	}
	return len(b), nil
}

// onlyWriter hides other methods from io.Copy, so that it takes the buffer.
type onlyWriter struct{ io.Writer }

func listOf(names []string) *structpb.ListValue {
	l := &structpb.ListValue{}
	for _, n := range names {
		l.Values = append(l.Values, structpb.NewStringValue(n))
	}
	return l
}

func stringsOf(l *structpb.ListValue) []string {
	var out []string
	for _, v := range l.Values {
		out = append(out, v.GetStringValue())
	}
	return out
}
