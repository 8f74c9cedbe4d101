package openapi

import (
	"reflect"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apimachineryversion "k8s.io/apimachinery/pkg/version"
)

var security = object{"BearerToken": object{
	"type": "apiKey", "in": "header", "name": "authorization", "description": "A bearer token.",
}}

func newBuilder(v3 bool, kinds func(reflect.Type) []schema.GroupVersionKind) *builder {
	return &builder{s: newSchemas(v3, kinds), paths: object{}, parameters: object{}, made: map[parameter]object{}}
}

// plainDocuments are the paths outside of groups.
var plainDocuments = map[string]func(*builder){
	"api": func(b *builder) {
		b.document("/api/", "getCoreAPIVersions", "core", reflect.TypeFor[metav1.APIVersions](), mediaTypes)
	},
	"apis": func(b *builder) {
		b.document("/apis/", "getAPIVersions", "apis", reflect.TypeFor[metav1.APIGroupList](), mediaTypes)
	},
	"version": func(b *builder) {
		b.document("/version/", "getCodeVersion", "version", reflect.TypeFor[apimachineryversion.Info](), []string{"application/json"})
	},
	"openid/v1/jwks": func(b *builder) {
		b.plain("/openid/v1/jwks/", "getServiceAccountIssuerOpenIDKeyset", "openid", "application/jwk-set+json")
	},
	".well-known/openid-configuration": func(b *builder) {
		b.plain("/.well-known/openid-configuration/", "getServiceAccountIssuerOpenIDConfiguration", "WellKnown", "application/json")
	},
}

// plain is a path that answers with JSON without a schema.
func (b *builder) plain(path, id, tag, media string) {
	op := object{"operationId": id, "tags": []string{tag}, "description": "get " + path}
	if !b.s.v3 {
		op["schemes"] = []string{"https"}
	}
	b.text(op, []string{media})
	b.paths[path] = object{"get": op}
}

func groupVersionOf(path string) schema.GroupVersion {
	parts := strings.Split(path, "/")
	switch {
	case len(parts) == 2 && parts[0] == "api":
		return schema.GroupVersion{Version: parts[1]}
	case len(parts) == 3 && parts[0] == "apis":
		return schema.GroupVersion{Group: parts[1], Version: parts[2]}
	}
	return schema.GroupVersion{}
}

// describe adds what the document at path holds; false when there is no such.
func (v view) describe(b *builder, path string) bool {
	if add := plainDocuments[path]; add != nil {
		add(b)
		return true
	}
	if !v.has(path) {
		return false
	}
	gv := groupVersionOf(path)
	for _, s := range v.served {
		if s.Resource.Group != gv.Group {
			continue
		}
		for _, name := range s.Versions {
			if name == gv.Version {
				b.resource(s.Resource, versionOf(s.Resource, name))
			}
		}
	}
	for _, c := range v.customAt(path) {
		b.customResource(c, gv.Version)
	}
	b.listing(path)
	return true
}

// listing adds the discovery document of a group, or of one of its versions.
func (b *builder) listing(path string) {
	group, version, _ := strings.Cut(strings.TrimPrefix(path, "apis/"), "/")
	if core, ok := strings.CutPrefix(path, "api/"); ok {
		group, version = "", core
	}
	id, tag := groupTitle(group), lowerFirst(groupTitle(group))
	if version == "" {
		b.document("/"+path+"/", "get"+id+"APIGroup", tag, reflect.TypeFor[metav1.APIGroup](), mediaTypes)
		return
	}
	b.document("/"+path+"/", "get"+id+title(version)+"APIResources", tag+"_"+version, reflect.TypeFor[metav1.APIResourceList](), mediaTypes)
}

// common adds what every custom resource refers to, whichever groups are served.
func (b *builder) common() {
	for _, t := range []reflect.Type{
		reflect.TypeFor[metav1.ObjectMeta](), reflect.TypeFor[metav1.ListMeta](), reflect.TypeFor[metav1.Status](), reflect.TypeFor[metav1.DeleteOptions](),
		reflect.TypeFor[metav1.Patch](), reflect.TypeFor[metav1.APIResourceList](), reflect.TypeFor[metav1.APIGroup](), reflect.TypeFor[autoscalingv1.Scale](),
	} {
		b.s.ref(t)
	}
	for _, query := range []map[string]string{listQuery, deleteQuery, deleteCollectionQuery, writeQuery, patchQuery} {
		b.queryParams(query)
	}
	b.param("name", "path", "string")
	b.param("namespace", "path", "string")
	b.param("pretty", "query", "string")
}
