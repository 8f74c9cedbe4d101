package openapi

import (
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skiff/apiserver/handlers"
)

const protoTypeV3 = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf"

// document is a v3 document that is kept.
type document struct {
	json packed
	etag string

	mu    sync.Mutex
	proto *packed // made when it is first asked for
}

func newDocument(text []byte) *document {
	return &document{json: pack(text), etag: fmt.Sprintf("%X", sha512.Sum512(text))}
}

func (d *document) protoText() ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.proto != nil {
		return d.proto.text()
	}
	text, err := d.json.text()
	if err != nil {
		return nil, err
	}
	out, err := protoV3(text)
	if err != nil {
		return nil, err
	}
	p := pack(out)
	d.proto = &p
	return out, nil
}

// keptV3 is the document at path where it is one to keep: of what is built in, or
// another server's. Of others there may be a thousand; they are made each time.
func (v view) keptV3(path string) (*document, error) {
	if d := v.extra[path]; d != nil {
		return d, nil
	}
	if !v.base.paths[path] || len(v.customAt(path)) > 0 {
		return nil, nil
	}
	return v.base.document(path, v.textV3)
}

// tagV3 is the hash of a document. It needs the document only where that is kept.
func (v view) tagV3(path string) (string, error) {
	d, err := v.keptV3(path)
	if err != nil || d != nil {
		return d.tag(), err
	}
	hash := sha512.New()
	_, _ = fmt.Fprintf(hash, "%s\n%s\n", v.version, path) // a hash does not fail
	for _, c := range v.customAt(path) {
		_, _ = io.WriteString(hash, c.ETag+"\n")
	}
	if v.base.paths[path] {
		own, err := v.base.document(path, v.textV3)
		if err != nil {
			return "", err
		}
		_, _ = io.WriteString(hash, own.etag)
	}
	return fmt.Sprintf("%X", hash.Sum(nil)), nil
}

func (d *document) tag() string {
	if d == nil {
		return ""
	}
	return d.etag
}

// textV3 makes the document at path.
func (v view) textV3(path string, custom bool) ([]byte, error) {
	b := newBuilder(true, kindsIn(groupVersionOf(path)))
	if !custom {
		v.custom = nil
	}
	if !v.describe(b, path) {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "openapi"}, path)
	}
	return json.Marshal(object{
		"openapi": "3.0.0", "info": v.info(), "paths": b.paths,
		"components": object{"schemas": b.s.defs, "securitySchemes": security},
	})
}

// v3 is the document at path in one of its encodings.
func (v view) v3(path string, inProto bool) ([]byte, error) {
	d, err := v.keptV3(path)
	switch {
	case err != nil:
		return nil, err
	case d != nil && inProto:
		return d.protoText()
	case d != nil:
		return d.json.text()
	}
	text, err := v.textV3(path, true)
	if err != nil || !inProto {
		return text, err
	}
	return protoV3(text)
}

// ServeV3Index lists the documents with their hashes.
func (o *OpenAPI) ServeV3Index(w http.ResponseWriter, r *http.Request) {
	v := o.view()
	paths := object{}
	for _, p := range v.paths() {
		tag, err := v.tagV3(p)
		if err != nil {
			handlers.WriteError(w, r, err)
			return
		}
		paths[p] = object{"serverRelativeURL": hashedURL(p, tag)}
	}
	b, err := json.Marshal(object{"paths": paths})
	if err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	sum := sha512.Sum512(b)
	if unchanged(w, r, fmt.Sprintf("%X", sum)) {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b) // the client is gone when this fails
}

func hashedURL(path, tag string) string {
	return "/openapi/v3/" + path + "?hash=" + url.QueryEscape(tag)
}

// ServeV3 is one group version's document.
func (o *OpenAPI) ServeV3(w http.ResponseWriter, r *http.Request) {
	v, path := o.view(), strings.TrimPrefix(r.URL.Path, "/openapi/v3/")
	if !v.has(path) {
		handlers.WriteError(w, r, apierrors.NewNotFound(schema.GroupResource{Resource: "openapi"}, path))
		return
	}
	tag, err := v.tagV3(path)
	if err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	if h := r.URL.Query().Get("hash"); h != "" {
		if h != tag {
			http.Redirect(w, r, hashedURL(path, tag), http.StatusMovedPermanently)
			return
		}
		w.Header().Set("Cache-Control", "public, immutable")
		w.Header().Set("Expires", "Fri, 31 Dec 2100 23:59:59 GMT")
	}
	if unchanged(w, r, tag) {
		return
	}
	kind, inProto := "application/json", strings.Contains(r.Header.Get("Accept"), "openapi.spec.v3")
	if inProto {
		kind = protoTypeV3
	}
	text, err := v.v3(path, inProto)
	if err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	out, end := handlers.Stream(w, r, kind, len(text), len(text))
	defer end()
	_, _ = out.Write(text) // the client is gone when this fails
}
