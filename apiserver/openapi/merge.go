package openapi

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"k8s.io/kube-openapi/pkg/openapiconv"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// sum is the hash of a definition, without the kinds that it is for.
type sum [sha256.Size]byte

func sumOf(definition object) (sum, error) {
	definition = maps.Clone(definition)
	delete(definition, "x-kubernetes-group-version-kind")
	b, err := json.Marshal(definition)
	return sha256.Sum256(b), err
}

// remote is what the v2 document of another server says of a group version.
type remote struct {
	tag  string
	text packed // of a part
	// names are its definitions.
	names map[string]sum
	// v3 is the same for readers of v3, of servers that have none themselves; nil
	// where what it says cannot be said there.
	v3 *document

	mu sync.Mutex
	// piece was made with as and own, which rename tells.
	piece *piece
	as    map[string]string
	own   map[string]bool
}

// described is a part of a v2 document.
type described struct {
	Paths       object            `json:"paths"`
	Definitions map[string]object `json:"definitions"`
}

// newRemote reads the document of another server, and keeps of it what lies below
// path ("apis/metrics.k8s.io/v1beta1").
func newRemote(path string, text []byte) (*remote, error) {
	kept, err := partBelow(path, text)
	if err != nil {
		return nil, err
	}
	r := &remote{names: make(map[string]sum, len(kept.Definitions))}
	for name, d := range kept.Definitions {
		if r.names[name], err = sumOf(d); err != nil {
			return nil, fmt.Errorf("definition %s: %w", name, err)
		}
	}
	if _, err := protoV2(kept.object()); err != nil {
		return nil, err
	}
	b, err := json.Marshal(kept)
	if err != nil {
		return nil, err
	}
	r.text, r.tag = pack(b), fmt.Sprintf("%X", sha256.Sum256(b))
	if text, err := kept.asV3(); err == nil {
		r.v3 = newDocument(text)
	}
	return r, nil
}

// asV3 is the part as a v3 document of its own.
func (p *described) asV3() ([]byte, error) {
	whole := p.object()
	whole["swagger"], whole["info"] = "2.0", object{"title": "Kubernetes", "version": "unversioned"}
	b, err := json.Marshal(whole)
	if err != nil {
		return nil, err
	}
	var v2 spec.Swagger
	if err := json.Unmarshal(b, &v2); err != nil {
		return nil, err
	}
	if b, err = json.Marshal(openapiconv.ConvertV2ToV3(&v2)); err != nil {
		return nil, err
	}
	_, err = protoV3(b)
	return b, err
}

func (p *described) object() object {
	definitions := make(object, len(p.Definitions))
	for name, d := range p.Definitions {
		definitions[name] = d
	}
	return object{"paths": p.Paths, "definitions": definitions}
}

// partBelow is the part of a document that describes the paths below one, with the
// definitions that these refer to. Parameters that the document keeps elsewhere are
// put in their places. The listing of the group version is left out: it is ours.
func partBelow(path string, text []byte) (*described, error) {
	var doc struct {
		Swagger string `json:"swagger"`
		described
		Parameters map[string]any `json:"parameters"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	if doc.Swagger != "2.0" {
		return nil, fmt.Errorf("swagger: %q: want 2.0", doc.Swagger)
	}
	out := &described{Paths: object{}, Definitions: map[string]object{}}
	prefix := "/" + path + "/"
	var missing error
	var refer func(name string)
	var visit func(ref string) (any, bool)
	visit = func(ref string) (any, bool) {
		if name, ok := strings.CutPrefix(ref, parameterPrefix); ok {
			p, ok := doc.Parameters[name]
			if !ok {
				missing = fmt.Errorf("parameter %q is referred to and missing", name)
			}
			return replaceRefs(p, visit), ok
		}
		if name, ok := strings.CutPrefix(ref, definitionPrefix); ok {
			refer(name)
		}
		return nil, false
	}
	refer = func(name string) {
		if out.Definitions[name] != nil {
			return
		}
		d := doc.Definitions[name]
		if d == nil {
			missing = fmt.Errorf("definition %q is referred to and missing", name)
			return
		}
		out.Definitions[name] = d
		replaceRefs(d, visit)
	}
	for at, item := range doc.Paths {
		if strings.HasPrefix(at, prefix) && at != prefix {
			out.Paths[at] = replaceRefs(item, visit)
		}
	}
	return out, missing
}

const (
	parameterPrefix  = "#/parameters/"
	definitionPrefix = "#/definitions/"
)

// replaceRefs puts into a value, in place, what replace has for a reference: any
// other value, or nothing to leave it.
func replaceRefs(v any, replace func(ref string) (any, bool)) any {
	switch x := v.(type) {
	case map[string]any:
		if ref, ok := x["$ref"].(string); ok {
			if to, ok := replace(ref); ok {
				return to
			}
		}
		for key, value := range x {
			x[key] = replaceRefs(value, replace)
		}
	case []any:
		for i, value := range x {
			x[i] = replaceRefs(value, replace)
		}
	}
	return v
}

// rename is what the definitions of another server are called in a document that
// has those of taken already: one that differs from that of its name gets a number;
// one that does not is not needed twice. It adds to taken those that come in, and
// tells which they are.
func rename(taken, names map[string]sum) (as map[string]string, own map[string]bool) {
	as, own = map[string]string{}, map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		to := name
		for i := 2; ; i++ {
			had, there := taken[to]
			_, mine := names[to]
			if there && had == names[name] {
				break
			}
			if !there && (to == name || !mine) {
				taken[to], own[to] = names[name], true
				break
			}
			to = fmt.Sprintf("%s_v%d", name, i)
		}
		as[name] = to
	}
	return as, own
}

// addition is the piece that this is of the document, beside the definitions of taken.
func (r *remote) addition(taken map[string]sum) addition {
	as, own := rename(taken, r.names)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.piece == nil || !maps.Equal(r.as, as) || !maps.Equal(r.own, own) {
		r.piece, r.as, r.own = &piece{}, as, own
	}
	return addition{r.piece, fmt.Sprint(r.tag, as, own), func(b *builder) { b.err = r.describe(b, as, own) }}
}

// describe adds what there is to the document, by the names that it has there.
func (r *remote) describe(b *builder, as map[string]string, own map[string]bool) error {
	text, err := r.text.text()
	if err != nil {
		return err
	}
	var p described
	if err := json.Unmarshal(text, &p); err != nil {
		return err
	}
	to := func(ref string) (any, bool) {
		name, ok := strings.CutPrefix(ref, definitionPrefix)
		return object{"$ref": definitionPrefix + as[name]}, ok
	}
	for at, item := range p.Paths {
		b.paths[at] = replaceRefs(item, to)
	}
	for name, d := range p.Definitions {
		if own[as[name]] {
			replaceRefs(d, to)
			b.s.defs[as[name]] = d
		}
	}
	return nil
}

// sums are the hashes of what is defined already.
func (s *shared) sums() (map[string]sum, error) {
	out := map[string]sum{}
	for _, m := range s.pieces {
		text, err := m.definitions.text()
		if err != nil {
			return nil, err
		}
		var definitions map[string]object
		if err := json.Unmarshal(slices.Concat([]byte("{"), text, []byte("}")), &definitions); err != nil {
			return nil, err
		}
		for name, d := range definitions {
			if out[name], err = sumOf(d); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}
