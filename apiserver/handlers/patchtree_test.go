package handlers

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
)

// FuzzMergeTree: a tree is merged as the library merges documents.
func FuzzMergeTree(f *testing.F) {
	for _, seed := range [][2]string{
		{`{"a":1,"b":{"c":2,"d":3}}`, `{"b":{"c":null,"e":[{"x":null,"y":1},null]},"f":{"g":null,"h":{}}}`},
		{`{"a":[{"x":1}],"b":"s"}`, `{"a":[{"x":null}],"b":{"c":null}}`},
		{`{"a":{"b":1},"n":null}`, `{"a":[{"x":null}],"n":{"x":null,"l":[{"y":null}]}}`},
		{`{"a":{"b":1},"c":2}`, `{"a":3,"c":{}}`},
		{`{"":{}}`, `{"":{"":null}}`},
	} {
		f.Add([]byte(seed[0]), []byte(seed[1]))
	}
	f.Fuzz(func(t *testing.T, doc, patch []byte) {
		var tree, change map[string]any
		if json.Unmarshal(doc, &tree) != nil || json.Unmarshal(patch, &change) != nil || tree == nil || change == nil {
			return
		}
		merged, err := jsonpatch.MergePatch(doc, patch)
		if err != nil {
			return
		}
		var want map[string]any
		if err := json.Unmarshal(merged, &want); err != nil {
			t.Fatal(err)
		}
		mergeTree(tree, change)
		if d := cmp.Diff(want, tree); d != "" {
			t.Errorf("%s patched by %s: -library +tree\n%s", doc, patch, d)
		}
	})
}

func TestLeavesManagedFields(t *testing.T) {
	for _, tc := range []struct {
		name, patch string
		want        bool
	}{
		{"nothing of the metadata", `{"data":{"managedFields":"x"}}`, true},
		{"a label", `{"metadata":{"labels":{"a":"b"}}}`, true},
		{"named", `{"metadata":{"managedFields":[{}]}}`, false},
		{"removed", `{"metadata":{"managedFields":null}}`, false},
		{"all metadata removed", `{"metadata":null}`, false},
		{"all metadata replaced", `{"metadata":{"$patch":"replace","name":"a"}}`, false},
		{"the object replaced", `{"$patch":"replace","metadata":{"name":"a"}}`, false},
		{"the order of a list", `{"metadata":{"$setElementOrder/managedFields":[]}}`, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var patch map[string]any
			if err := json.Unmarshal([]byte(tc.patch), &patch); err != nil {
				t.Fatal(err)
			}
			if got := leavesManagedFields(patch); got != tc.want {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}
