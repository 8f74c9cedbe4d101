package ownerwatch

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"k8s.io/client-go/rest"
)

// Stream is an open answer.
type Stream struct {
	body    io.Closer
	decoder *json.Decoder
}

// Open asks. A server that does not have the path answers NotFound.
func Open(ctx context.Context, c rest.Interface) (*Stream, error) {
	body, err := c.Get().AbsPath(Path).SetHeader("Accept", "application/json").Stream(ctx)
	if err != nil {
		return nil, err
	}
	return &Stream{body: body, decoder: json.NewDecoder(bufio.NewReaderSize(body, 16<<10))}, nil
}

// Next waits for a frame.
func (s *Stream) Next() (*Frame, error) {
	var f Frame
	if err := s.decoder.Decode(&f); err != nil {
		return nil, fmt.Errorf("watch of owners: %w", err)
	}
	return &f, nil
}

// Close ends the answer.
func (s *Stream) Close() error { return s.body.Close() }
