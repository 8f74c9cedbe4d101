package conformance

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	aggregator "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"
	"k8s.io/utils/ptr"
)

// sample is an API server of the kind Flunder, which believes the front proxy
// that the cluster names.
type sample struct {
	s     *space
	group string
	proxy *x509.CertPool

	mu    sync.Mutex
	items map[string]*unstructured.Unstructured
	users []string
}

// ServeHTTP implements http.Handler.
func (a *sample) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimSuffix(r.URL.Path, "/")
	write := func(code int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(v) // the client may have left
	}
	gv := metav1.GroupVersionForDiscovery{GroupVersion: a.group + "/v1alpha1", Version: "v1alpha1"}
	group := metav1.APIGroup{TypeMeta: metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}, Name: a.group, Versions: []metav1.GroupVersionForDiscovery{gv}, PreferredVersion: gv}
	list := "/apis/" + gv.GroupVersion + "/namespaces/" + a.s.name + "/flunders"
	switch {
	case path == "/healthz" || path == "/readyz" || path == "/livez":
		fmt.Fprint(w, "ok")
		return
	case path == "/apis":
		write(http.StatusOK, metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}, Groups: []metav1.APIGroup{group}})
		return
	case path == "/apis/"+a.group:
		write(http.StatusOK, group)
		return
	case path == "/apis/"+gv.GroupVersion:
		write(http.StatusOK, metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv.GroupVersion,
			APIResources: []metav1.APIResource{{Name: "flunders", SingularName: "flunder", Namespaced: true, Kind: "Flunder", Verbs: []string{"create", "delete", "get", "list"}}}})
		return
	case !strings.HasPrefix(path, list):
		http.NotFound(w, r)
		return
	}
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		http.Error(w, "no client certificate", http.StatusUnauthorized)
		return
	}
	if _, err := r.TLS.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: a.proxy, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.users = append(a.users, r.Header.Get("X-Remote-User")+" "+strings.Join(r.Header.Values("X-Remote-Group"), ","))
	name := strings.Trim(strings.TrimPrefix(path, list), "/")
	switch {
	case r.Method == http.MethodPost:
		u := &unstructured.Unstructured{}
		if err := json.NewDecoder(r.Body).Decode(&u.Object); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		u.SetUID("1")
		u.SetNamespace(a.s.name)
		a.items[u.GetName()] = u
		write(http.StatusCreated, u.Object)
	case r.Method == http.MethodGet && name == "":
		out := map[string]any{"kind": "FlunderList", "apiVersion": gv.GroupVersion, "metadata": map[string]any{"resourceVersion": "1"}, "items": []any{}}
		for _, u := range a.items {
			out["items"] = append(out["items"].([]any), u.Object)
		}
		write(http.StatusOK, out)
	case a.items[name] == nil:
		write(http.StatusNotFound, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Reason: metav1.StatusReasonNotFound, Code: http.StatusNotFound})
	case r.Method == http.MethodGet:
		write(http.StatusOK, a.items[name].Object)
	case r.Method == http.MethodDelete:
		delete(a.items, name)
		write(http.StatusOK, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Success"})
	}
}

// Conformance: [sig-api-machinery] Aggregator Should be able to support the 1.17 Sample API Server using the current Aggregator [LinuxOnly]
func TestAPIAggregator(t *testing.T) {
	s := parallel(t)
	trust, err := s.client.CoreV1().ConfigMaps("kube-system").Get(s.ctx, "extension-apiserver-authentication", metav1.GetOptions{})
	s.must(err)
	for key, want := range map[string]string{"requestheader-username-headers": "X-Remote-User", "requestheader-group-headers": "X-Remote-Group", "requestheader-extra-headers-prefix": "X-Remote-Extra-", "client-ca-file": "CERTIFICATE"} {
		if !strings.Contains(trust.Data[key], want) {
			t.Errorf("%s is %q", key, trust.Data[key])
		}
	}
	a := &sample{s: s, group: "wardle." + s.name + ".example.com", proxy: x509.NewCertPool(), items: map[string]*unstructured.Unstructured{}}
	if !a.proxy.AppendCertsFromPEM([]byte(trust.Data["requestheader-client-ca-file"])) {
		t.Fatalf("requestheader-client-ca-file is %q", trust.Data["requestheader-client-ca-file"])
	}
	b := s.serveAsking("sample-api", a, tls.RequestClientCert)
	client, err := aggregator.NewForConfig(s.config)
	s.must(err)
	services := client.ApiregistrationV1().APIServices()
	name := "v1alpha1." + a.group
	_, err = services.Create(s.ctx, &apiregistrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"test": s.name}},
		Spec: apiregistrationv1.APIServiceSpec{Group: a.group, Version: "v1alpha1", CABundle: b.ca, GroupPriorityMinimum: 2000, VersionPriority: 200,
			Service: &apiregistrationv1.ServiceReference{Namespace: s.name, Name: b.service, Port: ptr.To[int32](8443)}},
	}, metav1.CreateOptions{})
	s.must(err)
	s.later("delete the API service", func(ctx context.Context) error { return services.Delete(ctx, name, metav1.DeleteOptions{}) })
	s.eventually(30*time.Second, "the API service is available", func() error {
		got, err := services.Get(s.ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range got.Status.Conditions {
			if c.Type == apiregistrationv1.Available && c.Status == apiregistrationv1.ConditionTrue && c.Reason == "Passed" {
				return nil
			}
		}
		return fmt.Errorf("%+v", got.Status.Conditions)
	})
	gvr := schema.GroupVersionResource{Group: a.group, Version: "v1alpha1", Resource: "flunders"}
	flunders := s.dynamic.Resource(gvr).Namespace(s.name)
	s.eventually(30*time.Second, "a flunder", func() error {
		_, err := flunders.Create(s.ctx, parsed(s, `{"apiVersion":"`+a.group+`/v1alpha1","kind":"Flunder","metadata":{"name":"rest-flunder-1"},"spec":{}}`), metav1.CreateOptions{})
		return err
	})
	list, err := flunders.List(s.ctx, metav1.ListOptions{})
	s.must(err)
	equal(s, "the number of flunders", 1, len(list.Items))
	a.mu.Lock()
	if len(a.users) == 0 || !strings.Contains(a.users[0], "system:masters") && !strings.Contains(a.users[0], "admin") || !strings.Contains(a.users[0], "system:authenticated") {
		t.Errorf("the users of the requests are %v", a.users)
	}
	a.mu.Unlock()
	s.eventually(30*time.Second, "it is discovered", func() error {
		_, resources, failed, err := s.aggregatedClient()
		if list := resources[gvr.GroupVersion()]; err == nil && (list == nil || list.APIResources[0].Name != "flunders" || failed[gvr.GroupVersion()] != nil) {
			err = fmt.Errorf("%+v %v", list, failed)
		}
		return err
	})
	s.says("", []string{"get", "flunders." + a.group}, "rest-flunder-1")
	s.must(flunders.Delete(s.ctx, "rest-flunder-1", metav1.DeleteOptions{}))

	// The status is read, patched and updated; the object too.
	_, err = services.Patch(s.ctx, name, types.MergePatchType, []byte(`{"metadata":{"labels":{"apiservice":"patched"}},"spec":{"versionPriority":400}}`), metav1.PatchOptions{})
	s.must(err)
	u, err := s.dynamic.Resource(apiregistrationv1.SchemeGroupVersion.WithResource("apiservices")).Get(s.ctx, name, metav1.GetOptions{}, "status")
	s.must(err)
	equal(s, "the version's priority", any(int64(400)), at(u, "spec", "versionPriority"))
	s.eventually(10*time.Second, "an update of the status", func() error {
		got, err := services.Get(s.ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		got.Status.Conditions = append(got.Status.Conditions, apiregistrationv1.APIServiceCondition{Type: "StatusUpdated", Status: "True", Reason: "E2E", Message: "Set by an e2e test"})
		got, err = services.UpdateStatus(s.ctx, got, metav1.UpdateOptions{})
		if err == nil && !slices.ContainsFunc(got.Status.Conditions, func(c apiregistrationv1.APIServiceCondition) bool { return c.Type == "StatusUpdated" }) {
			err = fmt.Errorf("%+v", got.Status.Conditions)
		}
		return err
	})
	_, err = services.Patch(s.ctx, name, types.MergePatchType, []byte(`{"status":{"conditions":[{"type":"StatusPatched","status":"True","reason":"E2E","message":"m"}]}}`), metav1.PatchOptions{}, "status")
	s.must(err)
	s.must(services.DeleteCollection(s.ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "test=" + s.name + ",apiservice=patched"}))
	s.eventually(30*time.Second, "the group is gone", func() error {
		if _, err := s.client.Discovery().ServerResourcesForGroupVersion(a.group + "/v1alpha1"); err == nil {
			return fmt.Errorf("it is served still")
		}
		return nil
	})
}
