package connect

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

func TestAccessReviewsRefused(t *testing.T) {
	res, path := &authorizationv1.ResourceAttributes{Verb: "get"}, &authorizationv1.NonResourceAttributes{Path: "/x"}
	tests := map[string]struct {
		user      string
		res       *authorizationv1.ResourceAttributes
		path      *authorizationv1.NonResourceAttributes
		meta      metav1.ObjectMeta
		want, but string
	}{
		"a resource": {user: "jane", res: res},
		"a path":     {user: "jane", path: path},
		"neither":    {user: "jane", want: `.authorization.k8s.io "" is invalid: spec: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified`},
		"both":       {user: "jane", res: res, path: path, want: `.authorization.k8s.io "" is invalid: spec: Invalid value: {"Path":"/x","Verb":""}: exactly one of nonResourceAttributes or resourceAttributes must be specified`},
		"nobody":     {res: res, want: `.authorization.k8s.io "" is invalid: spec.user: Invalid value: "": at least one of user or group must be specified`},
		"a name":     {user: "jane", res: res, meta: metav1.ObjectMeta{Name: "a"}, want: `.authorization.k8s.io "" is invalid: metadata: Invalid value: {"name":"a"}: must be empty`},
		"a name in a namespace": {user: "jane", res: res, meta: metav1.ObjectMeta{Name: "a", Namespace: "n"}, but: " except for namespace",
			want: `.authorization.k8s.io "" is invalid: metadata: Invalid value: {"name":"a","namespace":"n"}: must be empty except for namespace`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := ""
			if errs := append(checkSpec(tt.user, nil, false, tt.res, tt.path), checkMeta(tt.meta, tt.but)...); len(errs) > 0 {
				got = invalidReview(errs).Error()
			}
			if got != tt.want {
				t.Errorf("got %s\nwant %s", got, tt.want)
			}
		})
	}
}

// Covers: api.access-reviews
func TestEvaluationError(t *testing.T) {
	bad := errors.New("unreadable")
	for name, tc := range map[string]struct {
		attributes authorizer.AttributesRecord
		err        error
		want       string
	}{
		"all well":            {},
		"the authorizers'":    {err: errors.New("no answer"), want: "no answer"},
		"no selector is read": {attributes: authorizer.AttributesRecord{FieldSelectorParsingErr: bad, LabelSelectorParsingErr: bad}, want: "spec.resourceAttributes.fieldSelector ignored due to parse error; spec.resourceAttributes.labelSelector ignored due to parse error"},
		"one is read in part": {err: errors.New("no answer"), attributes: authorizer.AttributesRecord{LabelSelectorRequirements: labels.Requirements{{}}, LabelSelectorParsingErr: bad},
			want: "no answer; spec.resourceAttributes.labelSelector partially ignored due to parse error"},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(tc.want, evaluationError(&tc.attributes, tc.err)); d != "" {
				t.Error(d)
			}
		})
	}
}
