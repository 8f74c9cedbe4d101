// Package openapi publishes the API's schemas: OpenAPI v3 a document for each
// group version, and v2 in one. They are made from the Go types when somebody
// first asks: names, shapes and descriptions are the types' own, and what only
// their comments say (lists' keys, defaults, what is optional) is in a table that
// gen makes from the sources.
package openapi

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"skiff/apiserver/resources"
)

// Served is a resource with the versions that are switched on.
type Served struct {
	Resource *resources.Resource
	Versions []string
}

// OpenAPI serves the documents.
type OpenAPI struct {
	mu      sync.Mutex
	current view
}

// view is what there is to describe at one time. Nothing in it changes but what
// is kept of documents.
type view struct {
	version string
	served  []Served
	// extra are documents of other servers, by path.
	extra map[string]*document
	// remotes are what their v2 documents say of the same paths.
	remotes map[string]*remote
	custom  []Custom
	base    *base
	pieces  *pieces
}

// New serves documents that say version.
func New(version string) *OpenAPI {
	o := &OpenAPI{current: view{version: version, pieces: &pieces{}}}
	o.Set(nil)
	return o
}

func (o *OpenAPI) view() view {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.current
}

// Set replaces what is described; documents are made anew when asked for.
func (o *OpenAPI) Set(served []Served) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.current.served, o.current.pieces = served, &pieces{}
	o.current.base = newBase(o.current)
}

// SetExtra gives the v3 document of a group version that another server serves;
// nil removes it.
func (o *OpenAPI) SetExtra(path string, text []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	extra := maps.Clone(o.current.extra)
	if extra == nil {
		extra = map[string]*document{}
	}
	delete(extra, path)
	if text != nil {
		extra[path] = newDocument(text)
	}
	o.current.extra = extra
}

// SetExtraV2 gives the v2 document of the server that serves the group version at
// path, whatever else it describes; nil removes it. It stands for the v3 document
// too where the server has none.
func (o *OpenAPI) SetExtraV2(path string, text []byte) error {
	var next *remote
	if text != nil {
		var err error
		if next, err = newRemote(path, text); err != nil {
			return fmt.Errorf("openapi v2 of %s: %w", path, err)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	remotes, extra := map[string]*remote{}, map[string]*document{}
	maps.Copy(remotes, o.current.remotes)
	maps.Copy(extra, o.current.extra)
	if old := remotes[path]; old != nil && old.v3 != nil && extra[path] == old.v3 {
		delete(extra, path)
	}
	if next != nil && next.v3 != nil && extra[path] == nil {
		extra[path] = next.v3
	}
	if remotes[path] = next; next == nil {
		delete(remotes, path)
	}
	o.current.remotes, o.current.extra = remotes, extra
	return nil
}

// SetCustom replaces the custom resources. What was made of those that stay as
// they are is kept.
func (o *OpenAPI) SetCustom(custom []Custom) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.current.custom = custom
	keep := map[string]bool{}
	for _, p := range o.current.paths() {
		keep[p] = true
	}
	for _, c := range custom {
		keep[c.ETag] = true
	}
	o.current.pieces.keep(keep)
}

// pieces are those of the v2 document that come and go.
type pieces struct {
	mu    sync.Mutex
	known map[string]*piece
}

func (p *pieces) of(key string) *piece {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil {
		p.known = map[string]*piece{}
	}
	if p.known[key] == nil {
		p.known[key] = &piece{}
	}
	return p.known[key]
}

func (p *pieces) keep(keys map[string]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.known, func(key string, _ *piece) bool { return !keys[key] })
}

// base is what is kept of the documents of what is built in.
type base struct {
	shared func() (*shared, error)
	proto  func() ([]packed, error)
	paths  map[string]bool

	mu sync.Mutex
	v3 map[string]func() (*document, error)
}

func newBase(v view) *base {
	b := &base{paths: map[string]bool{}, v3: map[string]func() (*document, error){}}
	v.base, v.custom, v.extra, v.remotes = b, nil, nil, nil
	b.shared, b.proto = sync.OnceValues(v.share), sync.OnceValues(v.protoPieces)
	for p := range plainDocuments {
		b.paths[p] = true
	}
	for _, s := range v.served {
		for _, version := range s.Versions {
			b.paths[gvPath(s.Resource.Group, version)] = true
			if g := s.Resource.Group; g != "" {
				b.paths["apis/"+g] = true
			}
		}
	}
	return b
}

// document is the v3 document of a path of what is built in.
func (b *base) document(path string, text func(path string, custom bool) ([]byte, error)) (*document, error) {
	b.mu.Lock()
	made := b.v3[path]
	if made == nil {
		made = sync.OnceValues(func() (*document, error) {
			raw, err := text(path, false)
			if err != nil {
				return nil, err
			}
			return newDocument(raw), nil
		})
		b.v3[path] = made
	}
	b.mu.Unlock()
	return made()
}

func gvPath(group, version string) string {
	if group == "" {
		return "api/" + version
	}
	return "apis/" + group + "/" + version
}

// paths are those of all v3 documents.
func (v view) paths() []string {
	set := maps.Clone(v.base.paths)
	for p := range v.extra {
		set[p] = true
		if group, _, ok := strings.Cut(strings.TrimPrefix(p, "apis/"), "/"); ok {
			set["apis/"+group] = true
		}
	}
	for _, c := range v.custom {
		set["apis/"+c.Resource.Group] = true
		for _, version := range c.Versions {
			set[gvPath(c.Resource.Group, version)] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

func (v view) has(path string) bool {
	if v.base.paths[path] || v.extra[path] != nil || len(v.customAt(path)) > 0 {
		return true
	}
	group, ok := strings.CutPrefix(path, "apis/")
	if !ok || strings.Contains(group, "/") {
		return false
	}
	for p := range v.extra {
		if strings.HasPrefix(p, path+"/") {
			return true
		}
	}
	return slices.ContainsFunc(v.custom, func(c Custom) bool { return c.Resource.Group == group })
}

func (v view) info() object {
	return object{"title": "Kubernetes", "version": v.version}
}

func versionOf(r *resources.Resource, name string) *resources.Version {
	for i := range r.Versions {
		if r.Versions[i].Name == name {
			return &r.Versions[i]
		}
	}
	return &r.Versions[0]
}

// unchanged sets the hash of a document, and answers where the client has it.
func unchanged(w http.ResponseWriter, r *http.Request, tag string) bool {
	h := w.Header()
	h.Set("ETag", `"`+tag+`"`)
	h.Add("Vary", "Accept")
	if r.Header.Get("If-None-Match") != `"`+tag+`"` {
		return false
	}
	w.WriteHeader(http.StatusNotModified)
	return true
}
