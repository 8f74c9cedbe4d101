package discovery

import (
	"encoding/json"
	"mime"
	"net/http"
	"strings"

	apidiscovery "k8s.io/api/apidiscovery/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skiff/apiserver/handlers"
)

// aggregatedWanted is the version of the all-in-one document that the client
// prefers; empty when it wants the old form.
func aggregatedWanted(r *http.Request) string {
	for _, header := range r.Header.Values("Accept") {
		for _, clause := range strings.Split(header, ",") {
			media, params, err := mime.ParseMediaType(strings.TrimSpace(clause))
			if err != nil {
				continue
			}
			if params["as"] == "APIGroupDiscoveryList" && params["g"] == apidiscovery.GroupName {
				if v := params["v"]; v == "v2" || v == "v2beta1" {
					return v
				}
				continue
			}
			if params["as"] == "" && (media == "application/json" || media == "*/*" || media == "application/vnd.kubernetes.protobuf") {
				return ""
			}
		}
	}
	return ""
}

func (d *Discovery) serveAggregated(w http.ResponseWriter, r *http.Request, docs *documents, core bool) {
	version := aggregatedWanted(r)
	etag := `"` + docs.etag[core] + `"`
	h := w.Header()
	h.Set("ETag", etag)
	h.Set("Cache-Control", "public")
	h.Add("Vary", "Accept")
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	list := docs.aggregated
	if core {
		list = docs.core
	}
	handlers.WriteDocument(w, r, schema.GroupVersionKind{Group: apidiscovery.GroupName, Version: version, Kind: "APIGroupDiscoveryList"}, list,
		";g="+apidiscovery.GroupName+";v="+version+";as=APIGroupDiscoveryList")
}

func serve(w http.ResponseWriter, r *http.Request, kind string, obj runtime.Object) {
	handlers.WriteDocument(w, r, schema.GroupVersionKind{Version: "v1", Kind: kind}, obj, "")
}

// serveCore is for the documents of core, which have never had an apiVersion.
func serveCore(w http.ResponseWriter, r *http.Request, kind string, obj runtime.Object) {
	if accept := r.Header.Get("Accept"); strings.Contains(accept, "protobuf") || strings.Contains(accept, "cbor") || strings.Contains(accept, "yaml") {
		handlers.WriteDocument(w, r, schema.GroupVersionKind{Kind: kind}, obj, "")
		return
	}
	obj = obj.DeepCopyObject()
	obj.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{Kind: kind})
	b, err := json.Marshal(obj)
	if err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b) // the client is gone when this fails
}

func notFound(w http.ResponseWriter, r *http.Request) {
	handlers.WriteError(w, r, &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound, Message: handlers.NotFoundText,
		Details: &metav1.StatusDetails{},
	}})
}
