package openapi

import (
	"bytes"
	"crypto/sha512"
	"encoding/json"
	"sync"
)

// piece is a part of the v2 document, made when it is first asked for: the
// members of the document's maps in JSON, and the same as a protobuf message.
type piece struct {
	mu    sync.Mutex
	json  *members
	proto *packed
}

// members are those of the paths and of the definitions, without the braces.
type members struct {
	paths, definitions packed
}

// membersOf is what describe adds to a document that has known already.
func (p *piece) membersOf(known *shared, describe func(*builder)) (members, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.json == nil {
		m, err := known.builder(describe).members()
		if err != nil {
			return members{}, err
		}
		p.json = &m
	}
	return *p.json, nil
}

func (p *piece) protoOf(known *shared, describe func(*builder)) (packed, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.proto == nil {
		b := known.builder(describe)
		if b.err != nil {
			return packed{}, b.err
		}
		m, err := packProto(object{"paths": b.paths, "definitions": b.definitions()})
		if err != nil {
			return packed{}, err
		}
		p.proto = &m
	}
	return *p.proto, nil
}

func packProto(part object) (packed, error) {
	text, err := protoV2(part)
	if err != nil {
		return packed{}, err
	}
	return pack(text), nil
}

// definitions are the schemas that are not in the document yet.
func (b *builder) definitions() object {
	out := make(object, len(b.s.defs))
	for name, def := range b.s.defs {
		if !b.s.known[name] {
			out[name] = def
		}
	}
	return out
}

func (b *builder) members() (members, error) {
	if b.err != nil {
		return members{}, b.err
	}
	paths, err := membersText(b.paths)
	if err != nil {
		return members{}, err
	}
	definitions, err := membersText(b.definitions())
	if err != nil {
		return members{}, err
	}
	return members{paths: pack(paths), definitions: pack(definitions)}, nil
}

// membersText is a JSON object without its braces.
func membersText(o object) ([]byte, error) {
	b, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(bytes.TrimPrefix(b, []byte("{")), []byte("}")), nil
}

// shared is what the pieces of one document refer to in common: the pieces of
// what is built in, whose definitions and parameters the others need not repeat.
type shared struct {
	pieces     []members
	known      map[string]bool
	parameters object
	// made are the parameters that have been made, by what they are made of.
	made map[parameter]object
	tag  [sha512.Size]byte
	// defined are the hashes of the definitions, for those of other servers.
	defined func() (map[string]sum, error)
}

// builder makes a part of a document that has all of this already.
func (s *shared) builder(describe func(*builder)) *builder {
	b := newBuilder(false, allKinds)
	b.s.known, b.parameters, b.made, b.closed = s.known, s.parameters, s.made, true
	describe(b)
	return b
}

// each describes all that v has, a discovery path at a time: v is of what is built
// in.
func (v view) each(add func(*builder) error) (*builder, error) {
	b := newBuilder(false, allKinds)
	b.s.known = map[string]bool{}
	b.common()
	for _, path := range v.paths() {
		v.describe(b, path)
		if err := add(b); err != nil {
			return nil, err
		}
		for name := range b.s.defs {
			b.s.known[name] = true
		}
		b.paths, b.s.defs = object{}, map[string]object{}
	}
	return b, nil
}

func (v view) share() (*shared, error) {
	s := &shared{}
	hash := sha512.New()
	b, err := v.each(func(b *builder) error {
		m, err := b.members()
		if err != nil {
			return err
		}
		_, _ = hash.Write(m.paths.flate) // a hash does not fail
		_, _ = hash.Write(m.definitions.flate)
		s.pieces = append(s.pieces, m)
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.known, s.parameters, s.made = b.s.known, b.parameters, b.made
	hash.Sum(s.tag[:0])
	s.defined = sync.OnceValues(s.sums)
	return s, nil
}

// protoPieces are the pieces of what is built in, as protobuf messages.
func (v view) protoPieces() ([]packed, error) {
	var out []packed
	_, err := v.each(func(b *builder) error {
		m, err := packProto(object{"paths": b.paths, "definitions": b.definitions()})
		out = append(out, m)
		return err
	})
	return out, err
}
