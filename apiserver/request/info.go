// Package request holds what the API server knows about one request: the parsed
// path (Info), who asks (user.Info), the audit id and the warnings to send.
// Middlewares put it into the context; handlers, authorisers, audit and flow
// control read it there.
package request

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"skiff/client/ownerwatch"
)

// Info is a request's URL in the terms of the API.
type Info struct {
	// IsResource tells a request for an API resource from one for a plain path.
	IsResource bool
	// Path is the URL's path.
	Path string
	// Verb is the API verb (get, list, watch, create, update, patch, delete,
	// deletecollection, proxy), or the lower-case HTTP method of a plain path.
	Verb string
	// APIPrefix is "api" or "apis".
	APIPrefix, APIGroup, APIVersion string
	Namespace                       string
	// Resource is the plural name; Subresource is empty for the resource itself.
	Resource, Subresource string
	// Name is the object's name, empty for collections. A list or watch whose
	// field selector demands one metadata.name has it too.
	Name string
	// Parts are the path's elements from the resource on.
	Parts []string
	// FieldSelector and LabelSelector are as the client sent them, for list,
	// watch and deletecollection.
	FieldSelector, LabelSelector string
}

// Subresources of namespaces are not resources inside the namespace.
func isNamespaceSubresource(s string) bool { return s == "status" || s == "finalize" }

// Parse reads the Info off a request. It never fails: a path that is not of
// the resource form is a plain path.
func Parse(r *http.Request) *Info {
	info := &Info{Path: r.URL.Path, Verb: strings.ToLower(r.Method)}
	parts := splitPath(r.URL.Path)
	if len(parts) < 3 {
		return info
	}
	switch parts[0] {
	case "api":
	case "apis":
		if len(parts) < 4 {
			return info
		}
		info.APIGroup = parts[1]
	default:
		return info
	}
	info.APIPrefix = parts[0]
	if info.APIPrefix == "apis" {
		info.APIVersion, parts = parts[2], parts[3:]
	} else {
		info.APIVersion, parts = parts[1], parts[2:]
	}
	info.IsResource = true

	if parts[0] == "proxy" || parts[0] == "watch" {
		if len(parts) < 2 {
			info.IsResource = false
			return info
		}
		info.Verb, parts = parts[0], parts[1:]
	} else {
		info.Verb = methodVerb(r.Method)
	}
	if parts[0] == "namespaces" {
		if len(parts) > 1 {
			info.Namespace = parts[1]
			if len(parts) > 2 && !isNamespaceSubresource(parts[2]) {
				parts = parts[2:]
			}
		}
	}
	info.Parts = parts
	switch {
	case len(parts) >= 3:
		info.Resource, info.Name, info.Subresource = parts[0], parts[1], parts[2]
	case len(parts) == 2:
		info.Resource, info.Name = parts[0], parts[1]
	case len(parts) == 1:
		info.Resource = parts[0]
	}
	if info.Name == "" && info.Verb == "get" || info.Verb == "watch" {
		info.collectionVerb(r.URL.RawQuery)
	}
	if info.Name == "" && info.Verb == "delete" {
		info.Verb = "deletecollection"
	}
	if info.Verb == "deletecollection" && r.URL.RawQuery != "" {
		q := r.URL.Query()
		info.FieldSelector, info.LabelSelector = q.Get("fieldSelector"), q.Get("labelSelector")
	}
	return info
}

// collectionVerb tells list from watch, and takes the name out of the field selector.
func (info *Info) collectionVerb(rawQuery string) {
	var q url.Values
	if rawQuery != "" {
		q, _ = url.ParseQuery(rawQuery)
	}
	if info.Verb == "get" {
		info.Verb = "list"
		if IsTrue(q, "watch") {
			info.Verb = "watch"
		}
	}
	info.FieldSelector, info.LabelSelector = q.Get("fieldSelector"), q.Get("labelSelector")
	if info.Name != "" {
		return
	}
	for _, term := range strings.Split(info.FieldSelector, ",") {
		name, ok := strings.CutPrefix(term, "metadata.name=")
		if !ok {
			continue
		}
		name = strings.TrimPrefix(name, "=")
		if ValidPathSegment(name) {
			info.Name = name
		}
	}
}

// ValidPathSegment tells whether s can be a name in a path.
func ValidPathSegment(s string) bool {
	return s != "" && s != "." && s != ".." && !strings.ContainsAny(s, "/%")
}

// IsTrue reads a boolean query parameter as Kubernetes does: present and
// neither "false" nor "0".
func IsTrue(q url.Values, key string) bool {
	v, ok := q[key]
	if !ok || len(v) == 0 {
		return false
	}
	s := strings.ToLower(v[0])
	return s != "false" && s != "0"
}

func methodVerb(method string) string {
	switch method {
	case http.MethodPost:
		return "create"
	case http.MethodGet, http.MethodHead:
		return "get"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		return "delete"
	}
	return ""
}

func splitPath(path string) []string {
	path = strings.Trim(path, "/")
	if path == "" {
		return nil
	}
	return strings.Split(path, "/")
}

// LongRunning tells whether the request has no time limit: watches, streams and proxies.
func (info *Info) LongRunning(r *http.Request) bool {
	if !info.IsResource {
		return strings.HasPrefix(info.Path, "/debug/pprof/") || info.Path == ownerwatch.Path
	}
	switch info.Verb {
	case "watch", "proxy":
		return true
	}
	switch info.Subresource {
	case "attach", "exec", "proxy", "portforward":
		return true
	case "log":
		return true
	}
	return false
}

// ReadOnly tells whether the verb cannot change anything.
func (info *Info) ReadOnly() bool {
	switch info.Verb {
	case "get", "list", "watch", "head", "options":
		return true
	}
	return false
}

// Scope is the metrics label: resource (one object), namespace or cluster.
func (info *Info) Scope() string {
	switch {
	case info.Name != "" || info.Verb == "create":
		return "resource"
	case info.Namespace != "":
		return "namespace"
	case info.IsResource:
		return "cluster"
	}
	return ""
}

// String is for logs.
func (info *Info) String() string {
	if !info.IsResource {
		return info.Verb + " " + info.Path
	}
	return fmt.Sprintf("%s %s/%s %s/%s %s", info.Verb, info.APIGroup, info.APIVersion, info.Resource, info.Subresource, info.Name)
}
