package kubelet

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
)

// Covers: node.static
func TestAskStatic(t *testing.T) {
	pod := func(name string) string {
		return `{"metadata":{"name":"` + name + `"},"spec":{"containers":[{"name":"c","image":"i"}]}}`
	}
	for _, tt := range []struct {
		name, body string
		status     int
		want       []string
		wrong      string
	}{
		{"a pod", "kind: Pod\napiVersion: v1\nmetadata: {name: a}\nspec: {containers: [{name: c, image: i}]}\n", 200, []string{"default/a-node"}, ""},
		{"a list", `{"kind":"PodList","apiVersion":"v1","items":[` + pod("a") + "," + pod("b") + "]}", 200, []string{"default/a-node", "default/b-node"}, ""},
		{"an empty list", `{"kind":"PodList","apiVersion":"v1","items":[]}`, 200, nil, ""},
		{"nothing", "", 200, nil, "zero-length data received from "},
		{"another kind", "kind: Service\napiVersion: v1\n", 200, nil, "want a Pod or a PodList"},
		{"a wrong field", "kind: Pod\napiVersion: v1\nmetadata: {name: a}\nspec: {kontainers: []}\n", 200, nil, "kontainers"},
		{"one of two is wrong", `{"kind":"PodList","apiVersion":"v1","items":[` + pod("a") + `,{"metadata":{"name":"b"}}]}`, 200, nil, "want a Pod with a name and containers"},
		{"an error", "no", 500, nil, "500 Internal Server Error"},
		{"somewhere else", "", 302, nil, "302 Found"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/pods" || r.Header.Get("X-Key") != "secret" {
					t.Errorf("asked for %s with %v", r.URL, r.Header)
				}
				w.Header().Set("Location", "/other")
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body))
			}))
			defer server.Close()
			k := &Kubelet{cfg: Config{NodeName: "node", Kubelet: &kubeletv1beta1.KubeletConfiguration{StaticPodURLHeader: map[string][]string{"x-key": {"secret"}}}}}
			pods, err := k.askStatic(t.Context(), server.URL+"/pods")
			if (err == nil) != (tt.wrong == "") || err != nil && !strings.Contains(err.Error(), tt.wrong) {
				t.Fatalf("got %v, want %q", err, tt.wrong)
			}
			var got []string
			for _, p := range pods {
				got = append(got, p.Namespace+"/"+p.Name)
				if p.Annotations[annotationSource] != "http" {
					t.Errorf("%s comes from %s", p.Name, p.Annotations[annotationSource])
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("pods (-want +got):\n%s", diff)
			}
			again, err := k.askStatic(t.Context(), server.URL+"/pods")
			if err == nil && !slices.Equal(slices.Sorted(maps.Keys(pods)), slices.Sorted(maps.Keys(again))) {
				t.Error("the same pods have other identifiers")
			}
		})
	}
}

// An answer of nonsense ends nothing.
func TestNullStaticPod(t *testing.T) {
	if _, err := podsIn([]byte(`{"kind":"PodList","items":[null]}`)); err == nil {
		t.Error("an item that is null was taken")
	}
}
