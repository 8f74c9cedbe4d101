package handlers

import (
	"encoding/json"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/table"
	"skiff/apiserver/store"
)

// tableDoc is a metav1.Table whose objects are encoded already.
type tableDoc struct {
	Kind              string                         `json:"kind"`
	APIVersion        string                         `json:"apiVersion"`
	Metadata          metav1.ListMeta                `json:"metadata"`
	ColumnDefinitions []metav1.TableColumnDefinition `json:"columnDefinitions"`
	Rows              []tableRow                     `json:"rows"`
}

type tableRow struct {
	Cells  []any           `json:"cells"`
	Object json.RawMessage `json:"object,omitempty"`
}

// encodeTable is the Table form of items. include says what each row's object
// is: Metadata (default), Object or None.
func (t *Target) encodeTable(w *wire, items []*store.Item, meta metav1.ListMeta, include string) ([]byte, error) {
	doc, err := t.table(w, items, meta, include, true)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	return finishJSON(w, b)
}

func (t *Target) table(w *wire, items []*store.Item, meta metav1.ListMeta, include string, header bool) (*tableDoc, error) {
	switch include {
	case "", "Metadata", "Object", "None":
	default:
		return nil, apierrors.NewBadRequest("Invalid value: \"" + include + "\": includeObject must be one of None, Metadata or Object")
	}
	doc := &tableDoc{Kind: "Table", APIVersion: metav1.GroupName + "/" + w.asVersion, Metadata: meta, Rows: make([]tableRow, 0, len(items))}
	columns, row := t.columns()
	if header {
		doc.ColumnDefinitions = columns
	}
	for _, it := range items {
		obj, err := it.Object()
		if err != nil {
			return nil, err
		}
		if t.Version.Row != nil {
			if obj, err = t.versionOf(it, obj); err != nil {
				return nil, err
			}
		}
		out := tableRow{Cells: row(obj)}
		switch include {
		case "", "Metadata":
			b, _, err := t.itemBody(formatJSON, "PartialObjectMetadata", it)
			if err != nil {
				return nil, err
			}
			out.Object = typed(formatJSON, schema.GroupVersionKind{Group: metav1.GroupName, Version: w.asVersion, Kind: "PartialObjectMetadata"}, b, false)
		case "Object":
			b, has, err := t.itemBody(formatJSON, "", it)
			if err != nil {
				return nil, err
			}
			out.Object = typed(formatJSON, t.GVK(), b, has)
		}
		doc.Rows = append(doc.Rows, out)
	}
	return doc, nil
}

// columns are those of the version, or else the resource's.
func (t *Target) columns() ([]metav1.TableColumnDefinition, func(runtime.Object) []any) {
	if t.Version.Row != nil {
		return t.Version.Columns, t.Version.Row
	}
	return columnsOf(t.Resource)
}

// columnsOf are a resource's columns, or the default ones.
func columnsOf(r *resources.Resource) ([]metav1.TableColumnDefinition, func(runtime.Object) []any) {
	if r.Row != nil {
		return r.Columns, r.Row
	}
	return table.Columns(table.Name(), table.CreatedAt()), func(obj runtime.Object) []any {
		m, err := metaOf(obj)
		if err != nil {
			return []any{"", ""}
		}
		return []any{m.GetName(), m.GetCreationTimestamp().UTC().Format(time.RFC3339)}
	}
}
