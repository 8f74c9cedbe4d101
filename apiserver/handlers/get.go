package handlers

import (
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func (a *API) get(w http.ResponseWriter, r *http.Request, t *Target) {
	rv := ""
	if r.URL.RawQuery != "" {
		var o metav1.GetOptions
		if err := decodeQuery(r.URL.Query(), &o); err != nil {
			a.WriteError(w, r, err)
			return
		}
		if export, err := strconv.ParseBool(r.URL.Query().Get("export")); err == nil && export {
			a.WriteError(w, r, apierrors.NewBadRequest("the export parameter, deprecated since v1.14, is no longer supported"))
			return
		}
		rv = o.ResourceVersion
	}
	if t.Name == "" {
		a.WriteError(w, r, apierrors.NewBadRequest("name is required"))
		return
	}
	it, err := t.Store.Get(r.Context(), t.Namespace, t.Name, rv)
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	a.writeItem(w, r, t, http.StatusOK, it)
}
