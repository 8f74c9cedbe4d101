// Package openapi publishes the API's schemas: OpenAPI v3 a document for each
// group version, and v2 in one. They are made from the Go types when somebody
// first asks: names, shapes and descriptions are the types' own, and what only
// their comments say (lists' keys, defaults, what is optional) is in a table that
// gen makes from the sources.
package openapi

import (
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	openapiv3 "github.com/google/gnostic-models/openapiv3"
	"google.golang.org/protobuf/proto"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skiff/apiserver/handlers"
	"skiff/apiserver/resources"
)

// Served is a resource with the versions that are switched on.
type Served struct {
	Resource *resources.Resource
	Versions []string
}

// OpenAPI serves the documents.
type OpenAPI struct {
	version string

	mu     sync.Mutex
	served []Served
	// extra are documents of custom resources by group version path.
	extra  map[string][]byte
	custom []Custom
	v3     map[string]document
	v2     *document
}

// document is one in both of its encodings.
type document struct {
	json, proto []byte
	etag        string
}

// New serves documents that say version.
func New(version string) *OpenAPI {
	return &OpenAPI{version: version, extra: map[string][]byte{}, v3: map[string]document{}}
}

// Set replaces what is described; documents are made anew when asked for.
func (o *OpenAPI) Set(served []Served) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.served, o.v2 = served, nil
	clear(o.v3)
}

// SetExtra gives the v3 document of a group version that has no Go types; nil
// removes it.
func (o *OpenAPI) SetExtra(path string, doc []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.v3, path)
	if doc == nil {
		delete(o.extra, path)
		return
	}
	o.extra[path] = doc
}

func gvPath(group, version string) string {
	if group == "" {
		return "api/" + version
	}
	return "apis/" + group + "/" + version
}

func (o *OpenAPI) pathsLocked() []string {
	set := map[string]bool{}
	for _, s := range o.served {
		for _, v := range s.Versions {
			set[gvPath(s.Resource.Group, v)] = true
			if g := s.Resource.Group; g != "" {
				set["apis/"+g] = true
			}
		}
	}
	for p := range o.extra {
		set[p] = true
		if group, _, ok := strings.Cut(strings.TrimPrefix(p, "apis/"), "/"); ok {
			set["apis/"+group] = true
		}
	}
	for _, c := range o.custom {
		set["apis/"+c.Resource.Group] = true
		for _, v := range c.Versions {
			set[gvPath(c.Resource.Group, v)] = true
		}
	}
	for p := range plainDocuments {
		set[p] = true
	}
	out := make([]string, 0, len(set))
	for p := range set {
		out = append(out, p)
	}
	slices.Sort(out)
	return out
}

func (o *OpenAPI) info() object {
	return object{"title": "Kubernetes", "version": o.version}
}

func (o *OpenAPI) v3Locked(path string) (document, error) {
	if d, ok := o.v3[path]; ok {
		return d, nil
	}
	raw := o.extra[path]
	if raw == nil {
		b := newBuilder(true, kindsIn(groupVersionOf(path)))
		if !o.describeLocked(b, path) {
			return document{}, apierrors.NewNotFound(schema.GroupResource{Resource: "openapi"}, path)
		}
		var err error
		raw, err = json.Marshal(object{
			"openapi": "3.0.0", "info": o.info(), "paths": b.paths,
			"components": object{"schemas": b.s.defs, "securitySchemes": security},
		})
		if err != nil {
			return document{}, err
		}
	}
	if tag := o.customTag(path); tag != "" {
		// Not kept: there may be a thousand of them.
		return document{json: raw, etag: tag}, nil
	}
	d := document{json: raw, etag: fmt.Sprintf("%X", sha512.Sum512(raw))}
	o.v3[path] = d
	return d, nil
}

func versionOf(r *resources.Resource, name string) *resources.Version {
	for i := range r.Versions {
		if r.Versions[i].Name == name {
			return &r.Versions[i]
		}
	}
	return &r.Versions[0]
}

// ServeV3Index lists the documents with their hashes.
func (o *OpenAPI) ServeV3Index(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	paths := object{}
	for _, p := range o.pathsLocked() {
		tag := o.customTag(p)
		if tag == "" {
			d, err := o.v3Locked(p)
			if err != nil {
				handlers.WriteError(w, r, err)
				return
			}
			tag = d.etag
		}
		paths[p] = object{"serverRelativeURL": "/openapi/v3/" + p + "?hash=" + url.QueryEscape(tag)}
	}
	b, err := json.Marshal(object{"paths": paths})
	if err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b) // the client is gone when this fails
}

// ServeV3 is one group version's document.
func (o *OpenAPI) ServeV3(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/openapi/v3/")
	o.mu.Lock()
	d, err := o.v3Locked(path)
	if err == nil && strings.Contains(r.Header.Get("Accept"), "openapi.spec.v3") && d.proto == nil {
		var doc *openapiv3.Document
		if doc, err = openapiv3.ParseDocument(d.json); err == nil {
			d.proto, err = proto.Marshal(doc)
		}
		if o.customTag(path) == "" {
			o.v3[path] = d
		}
	}
	o.mu.Unlock()
	if err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	if h := r.URL.Query().Get("hash"); h != "" {
		if h != d.etag {
			http.Redirect(w, r, r.URL.Path+"?hash="+url.QueryEscape(d.etag), http.StatusMovedPermanently)
			return
		}
		w.Header().Set("Cache-Control", "public, immutable")
		w.Header().Set("Expires", "Fri, 31 Dec 2100 23:59:59 GMT")
	}
	write(w, r, d, "openapi.spec.v3", "application/com.github.proto-openapi.spec.v3.v1.0+protobuf")
}

// ServeV2 is everything in one document.
func (o *OpenAPI) ServeV2(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	d, err := o.v2Locked(strings.Contains(r.Header.Get("Accept"), "openapi.spec.v2"))
	o.mu.Unlock()
	if err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	write(w, r, *d, "openapi.spec.v2", "application/com.github.proto-openapi.spec.v2.v1.0+protobuf")
}

func (o *OpenAPI) v2Locked(wantProto bool) (*document, error) {
	if o.v2 == nil {
		b := newBuilder(false, allKinds)
		for _, path := range o.pathsLocked() {
			o.describeLocked(b, path)
		}
		raw, err := json.Marshal(object{
			"swagger": "2.0", "info": o.info(), "paths": b.paths, "definitions": b.s.defs, "parameters": b.parameters,
			"securityDefinitions": security, "security": []any{object{"BearerToken": []any{}}},
		})
		if err != nil {
			return nil, err
		}
		o.v2 = &document{json: raw, etag: fmt.Sprintf("%X", sha512.Sum512(raw))}
	}
	if wantProto && o.v2.proto == nil {
		doc, err := openapiv2.ParseDocument(o.v2.json)
		if err != nil {
			return nil, fmt.Errorf("openapi v2: %w", err)
		}
		if o.v2.proto, err = proto.Marshal(doc); err != nil {
			return nil, err
		}
	}
	return o.v2, nil
}

func write(w http.ResponseWriter, r *http.Request, d document, mark, protoType string) {
	h := w.Header()
	h.Set("ETag", `"`+d.etag+`"`)
	h.Add("Vary", "Accept")
	if r.Header.Get("If-None-Match") == `"`+d.etag+`"` {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if strings.Contains(r.Header.Get("Accept"), mark) && d.proto != nil {
		h.Set("Content-Type", protoType)
		_, _ = w.Write(d.proto) // the client is gone when this fails
		return
	}
	h.Set("Content-Type", "application/json")
	_, _ = w.Write(d.json) // the client is gone when this fails
}
