package handlers

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skiff/apiserver/request"
	"skiff/apiserver/resources"
)

// ServeHTTP answers a request whose path is of a resource.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	info := request.InfoFrom(r.Context())
	if info == nil {
		info = request.Parse(r)
	}
	t, sub, err := a.target(info)
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	if d := t.Version.Deprecated; d != "" {
		request.Warn(r.Context(), d)
		request.Annotate(r.Context(), "k8s.io/deprecated", "true")
		if a.cfg.Deprecated != nil {
			a.cfg.Deprecated(t.GVR(), info.Subresource)
		}
	}
	a.serve(w, r, t, sub, info)
}

// NotFoundText is the message of a path that nothing serves.
const NotFoundText = "the server could not find the requested resource"

func notFoundPath() error {
	return apierrors.NewGenericServerResponse(http.StatusNotFound, "", schema.GroupResource{}, "", NotFoundText, 0, false)
}

// noMethod is the answer to a method that the path does not take. Only custom
// resources name the verb.
func (t *Target) noMethod(verb string) error {
	if _, custom := t.Version.New().(*unstructured.Unstructured); custom {
		err := apierrors.NewMethodNotSupported(t.GR(), verb)
		if text := t.Resource.Refused[verb]; text != "" && t.Subresource == "" {
			err.ErrStatus.Message = text
		}
		return err
	}
	return errMethod()
}

func (a *API) target(info *request.Info) (*Target, *resources.Subresource, error) {
	t, ok := a.Lookup(schema.GroupVersionResource{Group: info.APIGroup, Version: info.APIVersion, Resource: info.Resource})
	if !ok {
		return nil, nil, notFoundPath()
	}
	t.Namespace, t.Name, t.Subresource = info.Namespace, info.Name, info.Subresource
	res := t.Resource
	if res.Kind == "Namespace" && res.Group == "" {
		t.Namespace = ""
	} else if !res.Namespaced && info.Namespace != "" {
		return nil, nil, notFoundPath()
	}
	collection := len(info.Parts) < 2
	if collection {
		t.Name = ""
	}
	if res.Namespaced && info.Namespace == "" && !collection {
		return nil, nil, notFoundPath()
	}
	if len(info.Parts) > 3 {
		t.Rest = "/" + strings.Join(info.Parts[3:], "/")
	}
	if t.Subresource == "" {
		return t, nil, nil
	}
	sub, ok := res.Subresources[t.Subresource]
	if !ok {
		return nil, nil, notFoundPath()
	}
	if t.Rest != "" && sub.Connect != resources.ConnectProxy {
		return nil, nil, notFoundPath()
	}
	return t, &sub, nil
}

// ownQuery tells of connectors whose queries are their own.
func ownQuery(c resources.Connector) bool {
	return c == resources.ConnectProxy || c == resources.ConnectExec || c == resources.ConnectAttach || c == resources.ConnectPortForward
}

func (a *API) serve(w http.ResponseWriter, r *http.Request, t *Target, sub *resources.Subresource, info *request.Info) {
	verb := info.Verb
	if info.Verb == "watch" && t.Name != "" && len(info.Parts) > 1 {
		t.Name = info.Parts[1]
	}
	verbs, connect := t.Resource.Verbs, t.Resource.Virtual
	if sub != nil {
		verbs, connect = sub.Verbs, sub.Connect
	}
	if verb == "watch" && r.Method != http.MethodGet {
		a.WriteError(w, r, t.noMethod(verb))
		return
	}
	if _, custom := t.Version.New().(*unstructured.Unstructured); r.Method == http.MethodHead && connect != resources.ConnectProxy && !custom {
		a.WriteError(w, r, t.noMethod(verb))
		return
	}
	if verb == "head" || connect == resources.ConnectProxy && r.Method == http.MethodOptions {
		verb = "get"
	}
	// A new object is posted to its collection, a subresource to its object. What is
	// in namespaces is deleted in one of them.
	astray := verb == "create" && (t.Resource.Namespaced && t.Namespace == "" || sub == nil && t.Name != "") ||
		verb == "deletecollection" && t.Resource.Namespaced && t.Namespace == "" ||
		t.Name == "" && (verb == "update" || verb == "patch")
	if !slices.Contains(verbs, verb) || astray {
		a.WriteError(w, r, t.noMethod(verb))
		return
	}
	if connect != resources.ConnectNone {
		c := a.cfg.Connectors[connect]
		if c == nil {
			a.WriteError(w, r, notFoundPath())
			return
		}
		if verb == "create" && !ownQuery(connect) {
			if _, err := createOptions(r); err != nil {
				a.WriteError(w, r, err)
				return
			}
		}
		c(w, r, t)
		return
	}
	// Before anything changes: an answer that the client cannot read tells it nothing.
	if _, err := t.negotiate(r); err != nil && verb != "watch" {
		a.WriteError(w, r, err)
		return
	}
	if verb == "get" || verb == "delete" {
		if msgs := path.IsValidPathSegmentName(t.Name); len(msgs) > 0 {
			a.WriteError(w, r, apierrors.NewBadRequest(fmt.Sprintf("Name parameter invalid: %q: %s", t.Name, strings.Join(msgs, ";"))))
			return
		}
	}
	strategy := &t.Resource.Strategy
	if sub != nil {
		strategy = sub.Strategy
		if strategy == nil {
			a.WriteError(w, r, apierrors.NewInternalError(fmt.Errorf("subresource %s of %s has neither a strategy nor a connector", t.Subresource, t.GR())))
			return
		}
	}
	switch verb {
	case "get":
		a.get(w, r, t)
	case "list":
		a.list(w, r, t, info)
	case "watch":
		a.watch(w, r, t, info)
	case "create":
		a.create(w, r, t, strategy)
	case "update":
		a.update(w, r, t, strategy)
	case "patch":
		a.patch(w, r, t, strategy)
	case "delete":
		a.delete(w, r, t)
	case "deletecollection":
		a.deleteCollection(w, r, t, info)
	}
}
