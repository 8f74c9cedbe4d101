package openapi

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skiff/apiserver/resources"
)

// mediaTypes of bodies and answers, watchTypes those that stream besides.
var (
	mediaTypes = []string{"application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/cbor"}
	watchTypes = append(slices.Clone(mediaTypes), "application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch", "application/cbor-seq")
	patchTypes = []string{"application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json",
		"application/apply-patch+yaml", "application/apply-patch+cbor"}
)

// builder makes the paths of one document.
type builder struct {
	s          *schemas
	paths      object
	parameters object // v2's shared ones
	// made are the parameters so far; none is added to the shared ones of a
	// document that is closed.
	made   map[parameter]object
	closed bool
	// err is why it could not be made.
	err error
}

// subresourceTypes are the Go types of subresources that have a kind of their own.
var subresourceTypes = map[string]reflect.Type{
	"Scale": reflect.TypeFor[autoscalingv1.Scale](), "Binding": reflect.TypeFor[corev1.Binding](),
	"Eviction": reflect.TypeFor[policyv1.Eviction](), "TokenRequest": reflect.TypeFor[authenticationv1.TokenRequest](),
}

// site is where a resource's operations are: its names in paths and ids.
type site struct {
	gvk  schema.GroupVersionKind
	root string
	// id is the beginning of operation ids: "CoreV1".
	id   string
	tag  string
	body reflect.Type
	list reflect.Type
	res  *resources.Resource
}

func groupTitle(group string) string {
	if group == "" {
		return "Core"
	}
	var b strings.Builder
	for part := range strings.SplitSeq(strings.TrimSuffix(group, ".k8s.io"), ".") {
		b.WriteString(title(part))
	}
	return b.String()
}

func title(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

func newSite(r *resources.Resource, v *resources.Version) *site {
	s := &site{gvk: schema.GroupVersionKind{Group: r.Group, Version: v.Name, Kind: r.Kind}, res: r, root: "/" + gvPath(r.Group, v.Name)}
	s.id = groupTitle(r.Group) + title(v.Name)
	s.tag = lowerFirst(groupTitle(r.Group)) + "_" + v.Name
	if t := reflect.TypeOf(v.New()).Elem(); t != reflect.TypeFor[unstructured.Unstructured]() {
		s.body = t
	}
	if v.NewList != nil {
		s.list = reflect.TypeOf(v.NewList()).Elem()
	}
	return s
}

// resource adds the paths of a resource in one version.
func (b *builder) resource(r *resources.Resource, v *resources.Version) {
	s := newSite(r, v)
	if s.body == nil {
		return
	}
	b.pathsOf(r, s)
}

// pathsOf adds the paths of a resource whose types are known.
func (b *builder) pathsOf(r *resources.Resource, s *site) {
	// The old paths of watches are of built-in kinds alone.
	has := func(verb string) bool {
		return slices.Contains(r.Verbs, verb) && (verb != "watch" || s.body != reflect.TypeFor[customBody]())
	}
	scope, params, base := "", []any{}, s.root+"/"+r.Plural
	if r.Namespaced {
		scope = "Namespaced"
		if has("list") {
			b.item(base, b.queryParams(b.withPretty(listQuery)))["get"] = b.listOp(s, "list"+s.id+r.Kind+"ForAllNamespaces", nil)
		}
		if has("watch") {
			b.watchPath(s, s.root+"/watch/"+r.Plural, "watch"+s.id+r.Kind+"ListForAllNamespaces", "watchlist", nil)
		}
		base = s.root + "/namespaces/{namespace}/" + r.Plural
		params = append(params, b.param("namespace", "path", "string"))
	}
	pretty := b.param("pretty", "query", "string")
	collection := func() object { return b.item(base, append(slices.Clone(params), pretty)) }
	if has("list") {
		if r.Virtual != "" {
			b.item(base, append(slices.Clone(params), b.queryParams(b.withPretty(listQuery))...))["get"] = b.listOp(s, "list"+s.id+scope+r.Kind, nil)
		} else {
			collection()["get"] = b.listOp(s, "list"+s.id+scope+r.Kind, listQuery)
		}
	}
	if has("create") {
		if r.Virtual != "" {
			item := b.item(base, sorted(append(append(slices.Clone(params), b.queryParams(writeQuery)...), pretty), b))
			item["post"] = b.createOp(s, "create"+s.id+scope+r.Kind, s.body, s.gvk, nil)
		} else {
			collection()["post"] = b.createOp(s, "create"+s.id+scope+r.Kind, s.body, s.gvk, writeQuery)
		}
	}
	if has("deletecollection") {
		op := b.op(s, "delete"+s.id+"Collection"+scope+r.Kind, "deletecollection", s.gvk, deleteCollectionQuery)
		b.body(op, reflect.TypeFor[metav1.DeleteOptions](), false, []string{"*/*"})
		b.answers(op, reflect.TypeFor[metav1.Status](), mediaTypes, "200")
		collection()["delete"] = op
	}
	one := append([]any{b.param("name", "path", "string")}, params...)
	b.single(s, base+"/{name}", scope+r.Kind, one, pretty)
	if has("watch") {
		b.watchPath(s, strings.Replace(base, s.root, s.root+"/watch", 1)+"/{name}", "watch"+s.id+scope+r.Kind, "watch", one)
		b.watchPath(s, strings.Replace(base, s.root, s.root+"/watch", 1), "watch"+s.id+scope+r.Kind+"List", "watchlist", params)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Subresources)) {
		b.subresource(s, base+"/{name}/"+name, scope, name, r.Subresources[name], one, pretty)
	}
}

// single adds the operations on one object.
func (b *builder) single(s *site, path, name string, params []any, pretty any) {
	item := func() object { return b.item(path, append(slices.Clone(params), pretty)) }
	for _, verb := range s.res.Verbs {
		switch verb {
		case "get":
			item()["get"] = b.readOp(s, "read"+s.id+name, s.body, s.gvk)
		case "update":
			item()["put"] = b.updateOp(s, "replace"+s.id+name, s.body, s.gvk)
		case "patch":
			item()["patch"] = b.patchOp(s, "patch"+s.id+name, s.body, s.gvk)
		case "delete":
			op := b.op(s, "delete"+s.id+name, "delete", s.gvk, deleteQuery)
			b.body(op, reflect.TypeFor[metav1.DeleteOptions](), false, []string{"*/*"})
			answer := reflect.TypeFor[metav1.Status]()
			if s.res.ReturnDeleted || resources.ReturnsDeleted(s.gvk) {
				answer = s.body
			}
			b.answers(op, answer, mediaTypes, "200", "202")
			item()["delete"] = op
		}
	}
}

func (b *builder) subresource(s *site, path, scope, name string, sub resources.Subresource, params []any, pretty any) {
	gvk, body := s.gvk, s.body
	if sub.Kind != "" && sub.Kind != s.gvk.Kind {
		gvk.Kind = sub.Kind
		if sub.Version != "" {
			gvk.Group, gvk.Version = sub.Group, sub.Version
		}
		body = subresourceTypes[sub.Kind]
	}
	id := scope + s.res.Kind + title(name)
	if name == "ephemeralcontainers" {
		id = scope + s.res.Kind + "Ephemeralcontainers"
	}
	if sub.Connect == resources.ConnectLog {
		all := append(b.queryParams(b.withPretty(without(optionsQuery(connectOptions["PodLogOptions"]), "sinceTime"))), params...)
		op := b.op(s, "read"+s.id+id, "get", s.gvk, nil)
		b.text(op, append([]string{"text/plain"}, mediaTypes...))
		b.item(path, sorted(all, b))["get"] = op
		return
	}
	if options, ok := connectOptions[gvk.Kind]; ok {
		b.connect(s, path, id, gvk, sub, append(b.queryParams(optionsQuery(options)), params...))
		return
	}
	if body == nil {
		return
	}
	item := func() object { return b.item(path, append(slices.Clone(params), pretty)) }
	if len(sub.Verbs) == 1 && sub.Verbs[0] == "update" {
		// Where there is one way to write, its parameters are the path's.
		op := b.op(s, "replace"+s.id+id, "put", gvk, nil)
		b.body(op, body, true, []string{"*/*"})
		b.answers(op, body, mediaTypes, "200", "201")
		b.item(path, append(append(b.queryParams(writeQuery), params...), pretty))["put"] = op
		return
	}
	for _, verb := range sub.Verbs {
		switch verb {
		case "get":
			item()["get"] = b.readOp(s, "read"+s.id+id, body, gvk)
		case "update":
			item()["put"] = b.updateOp(s, "replace"+s.id+id, body, gvk)
		case "patch":
			item()["patch"] = b.patchOp(s, "patch"+s.id+id, body, gvk)
		case "create":
			all := append(append(b.queryParams(writeQuery), params...), pretty)
			b.item(path, sorted(all, b))["post"] = b.createOp(s, "create"+s.id+id, body, gvk, nil)
		}
	}
}

// connect adds the operations of a stream or proxy, and of a proxy's paths.
func (b *builder) connect(s *site, path, id string, gvk schema.GroupVersionKind, sub resources.Subresource, params []any) {
	methods := []string{}
	for _, verb := range sub.Verbs {
		if m, ok := map[string]string{"create": "post", "get": "get", "update": "put", "patch": "patch", "delete": "delete"}[verb]; ok {
			methods = append(methods, m)
		}
	}
	if sub.Connect == resources.ConnectProxy {
		methods = append(methods, "head", "options")
	}
	add := func(path, suffix string, params []any) {
		item := b.item(path, sorted(slices.Clone(params), b))
		for _, m := range methods {
			op := b.op(s, "connect"+s.id+title(m)+id+suffix, "connect", gvk, nil)
			b.text(op, []string{"*/*"})
			item[m] = op
		}
	}
	add(path, "", params)
	if sub.Connect == resources.ConnectProxy {
		add(path+"/{path}", "WithPath", append(slices.Clone(params), b.param("path", "path", "string")))
	}
}

func without(m map[string]string, name string) map[string]string {
	delete(m, name)
	return m
}

func (b *builder) withPretty(q map[string]string) map[string]string {
	out := maps.Clone(q)
	out["pretty"] = "string"
	return out
}

// item is a path with the parameters of all of its operations.
func (b *builder) item(path string, params []any) object {
	if item, ok := b.paths[path].(object); ok {
		return item
	}
	item := object{"parameters": sorted(slices.Clone(params), b)}
	b.paths[path] = item
	return item
}

// sorted orders parameters by name.
func sorted(params []any, b *builder) []any {
	what := func(p any, key string) string {
		o := p.(object)
		if ref, ok := o["$ref"].(string); ok {
			o = b.parameters[strings.TrimPrefix(ref, "#/parameters/")].(object)
		}
		return o[key].(string)
	}
	slices.SortStableFunc(params, func(x, y any) int {
		return cmp.Or(cmp.Compare(what(x, "name"), what(y, "name")), cmp.Compare(what(x, "in"), what(y, "in")))
	})
	return params
}
