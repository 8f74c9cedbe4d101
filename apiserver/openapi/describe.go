package openapi

import (
	"reflect"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apimachineryversion "k8s.io/apimachinery/pkg/version"
)

var security = object{"BearerToken": object{
	"type": "apiKey", "in": "header", "name": "authorization", "description": "A bearer token.",
}}

func newBuilder(v3 bool, kinds func(reflect.Type) []schema.GroupVersionKind) *builder {
	return &builder{s: newSchemas(v3, kinds), paths: object{}, parameters: object{}}
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

// describeLocked adds what the document at path holds; false when there is no such.
func (o *OpenAPI) describeLocked(b *builder, path string) bool {
	if add := plainDocuments[path]; add != nil {
		add(b)
		return true
	}
	gv := groupVersionOf(path)
	if gv.Version == "" {
		return o.describeGroupLocked(b, path)
	}
	found := false
	for _, s := range o.served {
		if s.Resource.Group != gv.Group {
			continue
		}
		for _, name := range s.Versions {
			if name == gv.Version {
				found = true
				b.resource(s.Resource, versionOf(s.Resource, name))
			}
		}
	}
	for _, c := range o.customIn(gv) {
		found = true
		b.customResource(c, gv.Version)
	}
	if found {
		id := groupTitle(gv.Group) + title(gv.Version)
		tag := lowerFirst(groupTitle(gv.Group)) + "_" + gv.Version
		b.document("/"+path+"/", "get"+id+"APIResources", tag, reflect.TypeFor[metav1.APIResourceList](), mediaTypes)
	}
	return found
}

func (o *OpenAPI) describeGroupLocked(b *builder, path string) bool {
	group, ok := strings.CutPrefix(path, "apis/")
	if !ok || strings.Contains(group, "/") {
		return false
	}
	served := false
	for _, s := range o.served {
		served = served || s.Resource.Group == group && len(s.Versions) > 0
	}
	for p := range o.extra {
		served = served || strings.HasPrefix(p, path+"/")
	}
	if served = served || len(o.customIn(schema.GroupVersion{Group: group})) > 0; served {
		b.document("/"+path+"/", "get"+groupTitle(group)+"APIGroup", lowerFirst(groupTitle(group)), reflect.TypeFor[metav1.APIGroup](), mediaTypes)
	}
	return served
}
