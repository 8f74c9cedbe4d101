package openapi

import (
	"bufio"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"skiff/apiserver/handlers"
)

const protoTypeV2 = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"

// ServeV2 is everything in one document. It is never whole in memory: what is
// kept are its pieces, one of each discovery path and of each custom resource.
func (o *OpenAPI) ServeV2(w http.ResponseWriter, r *http.Request) {
	v := o.view()
	known, err := v.base.shared()
	if err != nil {
		handlers.WriteError(w, r, fmt.Errorf("openapi v2: %w", err))
		return
	}
	added, err := v.additions(known)
	if err != nil {
		handlers.WriteError(w, r, fmt.Errorf("openapi v2: %w", err))
		return
	}
	tag := v.tagV2(known, added)
	if unchanged(w, r, tag) {
		return
	}
	write, kind := v.jsonV2, "application/json"
	if strings.Contains(r.Header.Get("Accept"), "openapi.spec.v2") {
		write, kind = v.protoV2, protoTypeV2
	}
	out, end := handlers.Stream(w, r, kind, math.MaxInt, 0)
	defer end()
	if err := write(out, known, added); err != nil {
		// The status code has gone out: a cut answer is an error for the client,
		// unless it is the client that has gone.
		panic(http.ErrAbortHandler)
	}
}

// addition is a piece with what it describes.
type addition struct {
	*piece
	tag      string
	describe func(*builder)
}

// additions are the pieces beside what is built in.
func (v view) additions(known *shared) ([]addition, error) {
	var out []addition
	for _, path := range v.paths() {
		if !v.base.paths[path] {
			out = append(out, addition{v.pieces.of(path), path, func(b *builder) { b.listing(path) }})
		}
	}
	for _, c := range v.custom {
		out = append(out, addition{v.pieces.of(c.ETag), c.ETag, func(b *builder) {
			for _, version := range c.Versions {
				b.customResource(c, version)
			}
		}})
	}
	if len(v.remotes) == 0 {
		return out, nil
	}
	defined, err := known.defined()
	if err != nil {
		return nil, err
	}
	taken := maps.Clone(defined)
	for _, c := range v.custom {
		for _, version := range c.Versions {
			for _, kind := range []string{c.Resource.Kind, c.Resource.ListKind} {
				taken[customModel(schema.GroupVersionKind{Group: c.Resource.Group, Version: version, Kind: kind})] = sum{}
			}
		}
	}
	for _, path := range slices.Sorted(maps.Keys(v.remotes)) {
		// A custom resource would have the same paths.
		if len(v.customAt(path)) == 0 {
			out = append(out, v.remotes[path].addition(taken))
		}
	}
	return out, nil
}

func (v view) tagV2(known *shared, added []addition) string {
	hash := sha512.New()
	_, _ = fmt.Fprintf(hash, "%s\n%x\n", v.version, known.tag) // a hash does not fail
	for _, p := range added {
		_, _ = io.WriteString(hash, p.tag+"\n")
	}
	return fmt.Sprintf("%X", hash.Sum(nil))
}

// frameV2 is the document without its maps.
func (v view) frameV2(known *shared) object {
	return object{
		"swagger": "2.0", "info": v.info(), "parameters": known.parameters,
		"securityDefinitions": security, "security": []any{object{"BearerToken": []any{}}},
	}
}

func (v view) jsonV2(out *bufio.Writer, known *shared, added []addition) error {
	frame, err := json.Marshal(v.frameV2(known))
	if err != nil {
		return err
	}
	if _, err := out.Write(frame[:len(frame)-1]); err != nil {
		return err
	}
	for _, of := range []struct {
		begin string
		part  func(members) packed
	}{
		{`,"paths":{`, func(m members) packed { return m.paths }},
		{`},"definitions":{`, func(m members) packed { return m.definitions }},
	} {
		if _, err := out.WriteString(of.begin); err != nil {
			return err
		}
		list := listWriter{out: out}
		for _, m := range known.pieces {
			list.add(of.part(m))
		}
		for _, p := range added {
			m, err := p.membersOf(known, p.describe)
			if err != nil {
				return err
			}
			list.add(of.part(m))
			if list.err != nil {
				return list.err
			}
		}
	}
	_, err = out.WriteString("}}\n")
	return err
}

// listWriter puts commas between the members that are written.
type listWriter struct {
	out   *bufio.Writer
	begun bool
	err   error
}

func (l *listWriter) add(p packed) {
	if p.size == 0 || l.err != nil {
		return
	}
	if l.begun {
		l.err = l.out.WriteByte(',')
	}
	if l.begun = true; l.err == nil {
		l.err = p.writeTo(l.out)
	}
}

func (v view) protoV2(out *bufio.Writer, known *shared, added []addition) error {
	frame := v.frameV2(known)
	frame["paths"], frame["definitions"] = object{}, object{}
	first, err := protoV2(frame)
	if err != nil {
		return err
	}
	builtin, err := v.base.proto()
	if err != nil {
		return err
	}
	if _, err := out.Write(first); err != nil {
		return err
	}
	for _, p := range builtin {
		if err := p.writeTo(out); err != nil {
			return err
		}
	}
	for _, p := range added {
		text, err := p.protoOf(known, p.describe)
		if err != nil {
			return err
		}
		if err := text.writeTo(out); err != nil {
			return err
		}
	}
	return nil
}
