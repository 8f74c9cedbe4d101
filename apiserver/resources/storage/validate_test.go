package storage

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/google/go-cmp/cmp"
)

func TestTopologies(t *testing.T) {
	term := func(key string, values ...string) corev1.TopologySelectorTerm {
		return corev1.TopologySelectorTerm{MatchLabelExpressions: []corev1.TopologySelectorLabelRequirement{{Key: key, Values: values}}}
	}
	for _, tc := range []struct {
		name string
		list []corev1.TopologySelectorTerm
		want []string
	}{
		{"nothing", nil, nil},
		{"two zones", []corev1.TopologySelectorTerm{term("zone", "a"), term("zone", "b")}, nil},
		{"the same zones in another order", []corev1.TopologySelectorTerm{term("zone", "a", "b"), term("zone", "b", "a")}, []string{`allowedTopologies[1].matchLabelExpressions: Duplicate value: ""`}},
		{"a value twice", []corev1.TopologySelectorTerm{term("zone", "a", "a")}, []string{`allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: "a"`}},
		{"no values", []corev1.TopologySelectorTerm{term("zone")}, []string{`allowedTopologies[0].matchLabelExpressions[0].values: Required value`}},
		{"a term of nothing", []corev1.TopologySelectorTerm{{}}, []string{`allowedTopologies[0].matchLabelExpressions: Duplicate value: ""`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			for _, e := range topologies(tc.list) {
				got = append(got, e.Error())
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestAttributesClass(t *testing.T) {
	for _, tc := range []struct{ name, driver, want string }{
		{"a driver", "d.io", ""},
		{"a qualified name", "example.com/Driver_1", ""},
		{"no driver", "", "driverName: Required value"},
		{"a broken name", "a b", `driverName: Invalid value: "a b": name part must consist of`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			errs := validateAttributes(t.Context(), &storagev1.VolumeAttributesClass{DriverName: tc.driver, Parameters: map[string]string{"k": "v"}})
			if tc.want == "" && len(errs) > 0 || tc.want != "" && (len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), tc.want)) {
				t.Errorf("got %v, want %q", errs, tc.want)
			}
		})
	}
}
