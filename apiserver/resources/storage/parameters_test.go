package storage

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func TestParameters(t *testing.T) {
	many := map[string]string{}
	for i := range maxParameters + 1 {
		many[strings.Repeat("k", i+1)] = ""
	}
	cases := map[string]struct {
		list map[string]string
		want []string
	}{
		"none":         {},
		"some":         {list: map[string]string{"a": "b", "c": ""}},
		"without name": {list: map[string]string{"": "b"}, want: []string{`parameters: Invalid value: "": field can not be empty.`}},
		"too many":     {list: many, want: []string{"parameters: Too long: may not be more than 512 bytes"}},
		"too large":    {list: map[string]string{"a": strings.Repeat("x", maxParametersSize)}, want: []string{"parameters: Too long: may not be more than 262144 bytes"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, e := range parameters(c.list, field.NewPath("parameters")) {
				got = append(got, e.Error())
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
