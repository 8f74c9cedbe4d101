package openapi

import (
	"net/http"
	"reflect"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// actionTexts begin the descriptions of operations.
var actionTexts = map[string]string{
	"get": "read the specified", "list": "list or watch objects of kind", "post": "create a", "put": "replace the specified",
	"patch": "partially update the specified", "delete": "delete a", "deletecollection": "delete collection of",
	"connect": "connect requests to", "watch": "watch changes to an object of kind", "watchlist": "watch individual changes to a list of",
}

// op is an operation without its body and answers.
func (b *builder) op(s *site, id, action string, gvk schema.GroupVersionKind, query map[string]string) object {
	op := object{
		"operationId": id, "tags": []string{s.tag}, "x-kubernetes-action": action, "x-kubernetes-group-version-kind": kindObject(gvk),
		"description": actionTexts[action] + " " + gvk.Kind,
	}
	if len(query) > 0 {
		op["parameters"] = b.queryParams(query)
	}
	if !b.s.v3 {
		op["schemes"] = []string{"https"}
		op["consumes"] = []string{"*/*"}
	}
	return op
}

// answers adds the responses; a 401 is always possible.
func (b *builder) answers(op object, t reflect.Type, types []string, codes ...string) {
	types = b.s.limit(types)
	responses := object{"401": object{"description": "Unauthorized"}}
	ref := b.s.ref(t)
	for _, code := range codes {
		responses[code] = b.answer(code, ref, types)
	}
	op["responses"] = responses
	if !b.s.v3 {
		op["produces"] = types
	}
}

func (b *builder) answer(code string, body object, types []string) object {
	n, err := strconv.Atoi(code)
	text := http.StatusText(n)
	if err != nil {
		text = code
	}
	if !b.s.v3 {
		return object{"description": text, "schema": body}
	}
	return object{"description": text, "content": content(types, body)}
}

// text adds the answer of an operation that streams whatever it does.
func (b *builder) text(op object, types []string) {
	op["responses"] = object{"200": b.answer("200", object{"type": "string"}, types), "401": object{"description": "Unauthorized"}}
	if !b.s.v3 {
		op["produces"] = types
	}
}

func content(types []string, body object) object {
	out := object{}
	for _, t := range types {
		out[t] = object{"schema": body}
	}
	return out
}

// body adds the request's body.
func (b *builder) body(op object, t reflect.Type, required bool, types []string) {
	ref := b.s.ref(t)
	types = b.s.limit(types)
	if b.s.v3 {
		body := object{"content": content(types, ref)}
		if required {
			body["required"] = true
		}
		op["requestBody"] = body
		return
	}
	op["consumes"] = types
	p := object{"name": "body", "in": "body", "schema": ref}
	if required {
		p["required"] = true
	}
	list, _ := op["parameters"].([]any)
	op["parameters"] = sorted(append([]any{p}, list...), b)
}

func (b *builder) readOp(s *site, id string, body reflect.Type, gvk schema.GroupVersionKind) object {
	op := b.op(s, id, "get", gvk, nil)
	b.answers(op, body, mediaTypes, "200")
	return op
}

func (b *builder) updateOp(s *site, id string, body reflect.Type, gvk schema.GroupVersionKind) object {
	op := b.op(s, id, "put", gvk, writeQuery)
	b.body(op, body, true, []string{"*/*"})
	b.answers(op, body, mediaTypes, "200", "201")
	return op
}

func (b *builder) patchOp(s *site, id string, body reflect.Type, gvk schema.GroupVersionKind) object {
	op := b.op(s, id, "patch", gvk, patchQuery)
	b.body(op, reflect.TypeFor[metav1.Patch](), true, patchTypes)
	b.answers(op, body, mediaTypes, "200", "201")
	return op
}

func (b *builder) createOp(s *site, id string, body reflect.Type, gvk schema.GroupVersionKind, query map[string]string) object {
	op := b.op(s, id, "post", gvk, query)
	b.body(op, body, true, []string{"*/*"})
	b.answers(op, body, mediaTypes, "200", "201", "202")
	return op
}

func (b *builder) listOp(s *site, id string, query map[string]string) object {
	op := b.op(s, id, "list", s.gvk, query)
	if s.list != nil {
		b.answers(op, s.list, watchTypes, "200")
	}
	return op
}

// watchPath adds one of the old paths of watches.
func (b *builder) watchPath(s *site, path, id, action string, params []any) {
	op := b.op(s, id, action, s.gvk, nil)
	b.answers(op, reflect.TypeFor[metav1.WatchEvent](), watchTypes, "200")
	all := append(b.queryParams(b.withPretty(listQuery)), params...)
	b.item(path, all)["get"] = op
}

// document is a path of a plain document of the server (discovery, version).
func (b *builder) document(path, id, tag string, t reflect.Type, types []string) {
	op := object{"operationId": id, "tags": []string{tag}, "description": "get " + path}
	if !b.s.v3 {
		op["schemes"], op["consumes"] = []string{"https"}, types
	}
	b.answers(op, t, types, "200")
	b.paths[path] = object{"get": op}
}
