package openapi

import (
	"bytes"
	"compress/flate"
	"io"
	"sync"
)

// packed is a text kept compressed: the pieces of documents are many, much alike,
// and seldom read.
type packed struct {
	flate []byte
	size  int
}

var packers = sync.Pool{New: func() any {
	w, _ := flate.NewWriter(nil, flate.BestSpeed) // the level is valid
	return w
}}

var unpackers = sync.Pool{New: func() any { return flate.NewReader(bytes.NewReader(nil)) }}

func pack(text []byte) packed {
	var out bytes.Buffer
	w := packers.Get().(*flate.Writer)
	defer packers.Put(w)
	w.Reset(&out)
	_, _ = w.Write(text) // a buffer takes everything
	_ = w.Close()
	return packed{flate: bytes.Clone(out.Bytes()), size: len(text)}
}

// writeTo writes the text.
func (p packed) writeTo(w io.Writer) error {
	r := unpackers.Get().(io.ReadCloser)
	defer unpackers.Put(r)
	if err := r.(flate.Resetter).Reset(bytes.NewReader(p.flate), nil); err != nil {
		return err
	}
	_, err := io.Copy(w, r)
	return err
}

func (p packed) text() ([]byte, error) {
	var out bytes.Buffer
	out.Grow(p.size)
	err := p.writeTo(&out)
	return out.Bytes(), err
}
