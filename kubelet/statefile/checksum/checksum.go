// Package checksum is how the kubelet's state files tell that they are whole.
// The sum is upstream's, so that either kubelet reads what the other wrote: it
// covers the names of Go types too, and the packages of what it sums are named
// accordingly.
package checksum

import (
	"errors"
	"fmt"
	"hash/fnv"

	"k8s.io/apimachinery/pkg/util/dump"
)

// ErrCorrupt says that a state file is not as it was written.
var ErrCorrupt = errors.New("checkpoint is corrupted")

// Checksum is the sum of a value.
type Checksum uint64

// New sums a value up.
func New(v any) Checksum { return Of(dump.ForHash(v)) }

// Of sums the printed form of a value up.
func Of(printed string) Checksum {
	h := fnv.New32a()
	// Write of a hash never fails.
	_, _ = h.Write([]byte(printed))
	return Checksum(h.Sum32())
}

// Verify compares with the sum of a value.
func (c Checksum) Verify(v any) error {
	if want := New(v); want != c {
		return fmt.Errorf("%w: checksum %d, want %d", ErrCorrupt, c, want)
	}
	return nil
}
