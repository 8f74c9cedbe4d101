package openapi

import (
	"encoding/base64"
	"encoding/json"
	"hash/fnv"
	"maps"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// query parameters of the verbs, by name, with their types.
var (
	listQuery = map[string]string{
		"allowWatchBookmarks": "boolean", "continue": "string", "fieldSelector": "string", "labelSelector": "string", "limit": "integer",
		"resourceVersion": "string", "resourceVersionMatch": "string", "sendInitialEvents": "boolean", "shardSelector": "string",
		"timeoutSeconds": "integer", "watch": "boolean",
	}
	deleteQuery = map[string]string{
		"dryRun": "string", "gracePeriodSeconds": "integer", "ignoreStoreReadErrorWithClusterBreakingPotential": "boolean",
		"orphanDependents": "boolean", "propagationPolicy": "string",
	}
	writeQuery = map[string]string{"dryRun": "string", "fieldManager": "string", "fieldValidation": "string"}
	patchQuery = map[string]string{"dryRun": "string", "fieldManager": "string", "fieldValidation": "string", "force": "boolean"}
)

// deleteCollectionQuery is both: what to delete and how.
var deleteCollectionQuery = func() map[string]string {
	out := maps.Clone(listQuery)
	maps.Copy(out, deleteQuery)
	delete(out, "allowWatchBookmarks")
	delete(out, "watch")
	return out
}()

// optionsQuery are the fields of an options type, as a connect takes them.
func optionsQuery(t reflect.Type) map[string]string {
	out := map[string]string{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		ft := f.Type
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		if ft.Kind() == reflect.Slice {
			ft = ft.Elem()
		}
		switch ft.Kind() {
		case reflect.Bool:
			out[name] = "boolean"
		case reflect.Int32, reflect.Int64:
			out[name] = "integer"
		case reflect.String:
			out[name] = "string"
		}
	}
	return out
}

// connectOptions are the options types of the connects of core.
var connectOptions = map[string]reflect.Type{
	"PodAttachOptions": reflect.TypeFor[corev1.PodAttachOptions](), "PodExecOptions": reflect.TypeFor[corev1.PodExecOptions](),
	"PodPortForwardOptions": reflect.TypeFor[corev1.PodPortForwardOptions](), "PodProxyOptions": reflect.TypeFor[corev1.PodProxyOptions](),
	"NodeProxyOptions": reflect.TypeFor[corev1.NodeProxyOptions](), "ServiceProxyOptions": reflect.TypeFor[corev1.ServiceProxyOptions](),
	"PodLogOptions": reflect.TypeFor[corev1.PodLogOptions](),
}

// parameterDocs are the descriptions of parameters: those of the options types.
func parameterDocs(name string) string {
	for _, docs := range []map[string]string{
		metav1.ListOptions{}.SwaggerDoc(), metav1.DeleteOptions{}.SwaggerDoc(), metav1.PatchOptions{}.SwaggerDoc(),
		corev1.PodLogOptions{}.SwaggerDoc(), corev1.PodExecOptions{}.SwaggerDoc(), corev1.PodProxyOptions{}.SwaggerDoc(),
	} {
		if text := docs[name]; text != "" {
			return text
		}
	}
	return ""
}

var pathDocs = map[string]string{
	"name": "The object's name.", "namespace": "The namespace, of which names are unique within one resource.", "path": "The path on the other side.",
	"pretty": "Whether JSON is indented; true or false.",
}

// parameter is what one is made of.
type parameter struct{ name, in, kind string }

// param is a parameter; v2 refers to it.
func (b *builder) param(name, in, kind string) object {
	key := parameter{name, in, kind}
	if made := b.made[key]; made != nil {
		return made
	}
	p := key.describe(b.s.v3)
	if b.closed {
		return p
	}
	if !b.s.v3 {
		p = b.share(p)
	}
	b.made[key] = p
	return p
}

func (k parameter) describe(v3 bool) object {
	p := object{"name": k.name, "in": k.in}
	doc := parameterDocs(k.name)
	if k.in == "path" || k.name == "pretty" {
		doc = pathDocs[k.name]
	}
	if doc != "" {
		p["description"] = doc
	}
	if k.in == "path" {
		p["required"] = true
	}
	if v3 {
		p["schema"] = object{"type": k.kind, "uniqueItems": true}
		return p
	}
	p["type"], p["uniqueItems"] = k.kind, true
	return p
}

// share keeps one copy of a v2 parameter for all operations.
func (b *builder) share(p object) object {
	raw, err := json.Marshal(p)
	if err != nil {
		return p
	}
	h := fnv.New64a()
	_, _ = h.Write(raw) // a hash does not fail
	key := p["name"].(string) + "-" + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:6])
	b.parameters[key] = p
	return object{"$ref": "#/parameters/" + key}
}

func (b *builder) queryParams(q map[string]string) []any {
	var out []any
	for _, name := range slices.Sorted(maps.Keys(q)) {
		out = append(out, b.param(name, "query", q[name]))
	}
	return out
}
