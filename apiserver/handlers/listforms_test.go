package handlers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cbordirect "k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"
)

// TestListForms: what is written in pieces is what encoding the whole list gives.
//
// Covers: api.encodings
func TestListForms(t *testing.T) {
	head := listHead{"ConfigMapList", "v1", metav1.ListMeta{ResourceVersion: "7", Continue: "c", RemainingItemCount: ptr.To[int64](1 << 40)}}
	for _, n := range []int{0, 1, 2, 23, 24, 300, 70000} {
		var docs []json.RawMessage
		for i := range n {
			docs = append(docs, json.RawMessage(fmt.Sprintf(`{"metadata":{"name":"m%d"},"data":{"k":"v: |\n  x","n":%d},"list":[1,{"a":null}],"none":{}}`, i, i)))
		}
		if docs == nil {
			docs = []json.RawMessage{}
		}
		whole, err := json.Marshal(struct {
			listHead
			Items []json.RawMessage `json:"items"`
		}{head, docs})
		if err != nil {
			t.Fatal(err)
		}
		for name, w := range map[string]*wire{
			"JSON": {format: formatJSON}, "indented JSON": {format: formatJSON, pretty: true}, "YAML": {format: formatYAML}, "CBOR": {format: formatCBOR},
		} {
			if n > 1000 && name == "YAML" {
				continue // it takes long
			}
			t.Run(fmt.Sprintf("%s of %d", name, n), func(t *testing.T) {
				form, err := w.form(head, n)
				if err != nil {
					t.Fatal(err)
				}
				got := bytes.Clone(form.open)
				for i, doc := range docs {
					if i > 0 {
						got = append(got, form.between...)
					}
					b, err := form.item(doc)
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, b...)
				}
				got = append(got, form.end...)
				want, err := finishJSON(w, bytes.Clone(whole))
				if err != nil {
					t.Fatal(err)
				}
				if w.format == formatCBOR {
					// Maps have no order there.
					var g, x any
					if err := cbordirect.Unmarshal(got, &g); err != nil {
						t.Fatal(err)
					}
					if err := cbordirect.Unmarshal(want, &x); err != nil {
						t.Fatal(err)
					}
					if len(got) > len(want)+4 {
						t.Errorf("%d bytes, want about %d", len(got), len(want))
					}
					if diff := cmp.Diff(x, g); diff != "" {
						t.Errorf("%.500s", diff)
					}
					return
				}
				if !bytes.Equal(want, got) {
					t.Errorf("%.1000s", cmp.Diff(string(want), string(got)))
				}
				if w.format == formatYAML {
					var v any
					if err := yaml.Unmarshal(got, &v); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}
