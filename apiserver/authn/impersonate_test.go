package authn

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"skiff/apiserver/request"
)

// grants allows what it lists as "verb group/resource[/sub] ns/name".
type grants []string

func (g grants) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	res := a.GetResource()
	if s := a.GetSubresource(); s != "" {
		res += "/" + s
	}
	key := a.GetVerb() + " " + a.GetAPIGroup() + "/" + res + " " + a.GetNamespace() + "/" + a.GetName()
	for _, e := range g {
		if e == key {
			return authorizer.DecisionAllow, "", nil
		}
	}
	return authorizer.DecisionNoOpinion, "", nil
}

// Covers: api.impersonation
func TestWithImpersonation(t *testing.T) {
	agent := &user.DefaultInfo{Name: "system:serviceaccount:kube-system:agent", Extra: map[string][]string{"authentication.kubernetes.io/node-name": {"n1"}}}
	cases := []struct {
		name    string
		who     user.Info
		header  http.Header
		grants  grants
		want    *user.DefaultInfo
		code    int
		message string
	}{
		{name: "none", want: &user.DefaultInfo{Name: "boss"}},
		{name: "user and groups", header: http.Header{"Impersonate-User": {"bob"}, "Impersonate-Group": {"dev"}},
			grants: grants{"impersonate /users /bob", "impersonate /groups /dev"},
			want:   &user.DefaultInfo{Name: "bob", Groups: []string{"dev", "system:authenticated"}}},
		{name: "a refused group refuses all", header: http.Header{"Impersonate-User": {"bob"}, "Impersonate-Group": {"dev"}},
			grants: grants{"impersonate /users /bob"}, code: 403,
			message: `pods is forbidden: User "boss" cannot impersonate-on:user-info:list resource "pods" in API group "" at the cluster scope`},
		{name: "service account", header: http.Header{"Impersonate-User": {"system:serviceaccount:ns:sa"}},
			grants: grants{"impersonate /serviceaccounts ns/sa"},
			want:   &user.DefaultInfo{Name: "system:serviceaccount:ns:sa", Groups: []string{"system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"}}},
		{name: "uid and extra", header: http.Header{"Impersonate-User": {"bob"}, "Impersonate-Uid": {"7"}, "Impersonate-Extra-Example.com%2fscope": {"x"}},
			grants: grants{"impersonate /users /bob", "impersonate authentication.k8s.io/uids /7", "impersonate authentication.k8s.io/userextras/example.com/scope /x"},
			want:   &user.DefaultInfo{Name: "bob", UID: "7", Groups: []string{"system:authenticated"}, Extra: map[string][]string{"example.com/scope": {"x"}}}},
		{name: "anonymous", header: http.Header{"Impersonate-User": {"system:anonymous"}}, grants: grants{"impersonate /users /system:anonymous"},
			want: &user.DefaultInfo{Name: "system:anonymous", Groups: []string{"system:unauthenticated"}}},
		{name: "groups without a user", header: http.Header{"Impersonate-Group": {"system:masters"}}, code: 400},
		{name: "the first refusal is told", header: http.Header{"Impersonate-User": {"bob"}}, code: 403,
			message: `pods is forbidden: User "boss" cannot impersonate-on:user-info:list resource "pods" in API group "" at the cluster scope`},
		{name: "constrained: masters are out of reach", header: http.Header{"Impersonate-User": {"bob"}, "Impersonate-Group": {"system:masters"}},
			grants: grants{"impersonate-on:user-info:list /pods /", "impersonate:user-info authentication.k8s.io/users /bob", "impersonate:user-info authentication.k8s.io/groups /system:masters"}, code: 403,
			message: `groups.authentication.k8s.io "system:masters" is forbidden: User "boss" cannot impersonate:user-info resource "groups" in API group "authentication.k8s.io" at the cluster scope: impersonating the system:masters group is not allowed`},
		{name: "constrained: many groups are asked for at once", header: http.Header{"Impersonate-User": {"bob"}, "Impersonate-Group": {"a", "b", "c", "d"}},
			grants: grants{"impersonate-on:user-info:list /pods /", "impersonate:user-info authentication.k8s.io/users /bob", "impersonate:user-info authentication.k8s.io/groups /*"},
			want:   &user.DefaultInfo{Name: "bob", Groups: []string{"a", "b", "c", "d", "system:authenticated"}}},
		{name: "constrained: few groups are asked for one by one", header: http.Header{"Impersonate-User": {"bob"}, "Impersonate-Group": {"a", "b", "c"}},
			grants: grants{"impersonate-on:user-info:list /pods /", "impersonate:user-info authentication.k8s.io/users /bob", "impersonate:user-info authentication.k8s.io/groups /*"}, code: 403},
		{name: "constrained: keys of extra are paths", header: http.Header{"Impersonate-User": {"bob"}, "Impersonate-Extra-Scope": {"x"}},
			grants: grants{"impersonate-on:user-info:list /pods /", "impersonate:user-info authentication.k8s.io/users /bob", "impersonate:user-info authentication.k8s.io/userextras/scope /x"}, code: 403},
		{name: "constrained: no name of a node", header: http.Header{"Impersonate-User": {"system:node:N_1"}},
			grants: grants{"impersonate-on:user-info:list /pods /", "impersonate:user-info authentication.k8s.io/users /system:node:N_1"},
			want:   &user.DefaultInfo{Name: "system:node:N_1", Groups: []string{"system:authenticated"}}},
		{name: "constrained: a node's own agent", who: agent, header: http.Header{"Impersonate-User": {"system:node:n1"}},
			grants: grants{"impersonate-on:associated-node:list /pods /", "impersonate:associated-node authentication.k8s.io/nodes /*"},
			want:   &user.DefaultInfo{Name: "system:node:n1", Groups: []string{"system:nodes", "system:authenticated"}}},
		{name: "constrained: another node", who: agent, header: http.Header{"Impersonate-User": {"system:node:n2"}},
			grants: grants{"impersonate-on:associated-node:list /pods /", "impersonate:associated-node authentication.k8s.io/nodes /*"}, code: 403},
		{name: "constrained: verb not granted", header: http.Header{"Impersonate-User": {"bob"}},
			grants: grants{"impersonate-on:user-info:get /pods /", "impersonate:user-info authentication.k8s.io/users /bob"}, code: 403},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			who := c.who
			if who == nil {
				who = &user.DefaultInfo{Name: "boss"}
			}
			var got user.Info
			next := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				got = request.UserFrom(r.Context())
				for h := range r.Header {
					if strings.HasPrefix(h, "Impersonate-") {
						t.Errorf("header %s was passed on", h)
					}
				}
			})
			h := WithImpersonation(next, ImpersonationConfig{Authorizer: c.grants, Attributes: func(r *http.Request) authorizer.Attributes {
				u := request.UserFrom(r.Context())
				return authorizer.AttributesRecord{User: u, Verb: "list", Resource: "pods", ResourceRequest: true}
			}})
			req := httptest.NewRequest(http.MethodGet, "/api/v1/pods", nil)
			req = req.WithContext(request.WithUser(req.Context(), who))
			for k, v := range c.header {
				req.Header[k] = v
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, req)
			if c.code != 0 {
				var st metav1.Status
				if err := json.Unmarshal(w.Body.Bytes(), &st); err != nil || w.Code != c.code || got != nil {
					t.Fatalf("code %d, status %v, err %v, user %v", w.Code, st, err, got)
				}
				if c.message != "" && st.Message != c.message {
					t.Errorf("message %q", st.Message)
				}
				return
			}
			if got == nil {
				t.Fatalf("refused: %s", w.Body)
			}
			if diff := cmp.Diff([]any{c.want.Name, c.want.UID, c.want.Groups, c.want.Extra}, []any{got.GetName(), got.GetUID(), got.GetGroups(), got.GetExtra()}); diff != "" {
				t.Error(diff)
			}
		})
	}
}
