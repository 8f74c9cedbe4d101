package handlers

import (
	"encoding/json"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// WriteComputed answers with objects that no store holds, in the form that the
// client wants: whole is the object or the list as it is, objects are what a
// table has as its rows.
func (a *API) WriteComputed(w http.ResponseWriter, r *http.Request, t *Target, gvk schema.GroupVersionKind, whole runtime.Object, objects ...runtime.Object) {
	wi, err := negotiate(r, true)
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	if wi.as != "Table" {
		a.WriteKind(w, r, http.StatusOK, gvk, whole)
		return
	}
	columns, row := t.columns()
	doc := &tableDoc{Kind: "Table", APIVersion: metav1.GroupName + "/" + wi.asVersion, ColumnDefinitions: columns, Rows: make([]tableRow, 0, len(objects))}
	partial := partialKind(&wi, "PartialObjectMetadata")
	for _, obj := range objects {
		b, err := body(formatJSON, partialOf(obj))
		if err != nil {
			a.WriteError(w, r, err)
			return
		}
		doc.Rows = append(doc.Rows, tableRow{Cells: row(obj), Object: typed(formatJSON, partial, b, false)})
	}
	b, err := json.Marshal(doc)
	if err == nil {
		b, err = finishJSON(&wi, b)
	}
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	writeBody(w, r, &wi, http.StatusOK, b)
}
