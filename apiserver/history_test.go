package apiserver_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"skiff/apiserver/apiservertest"
	"skiff/client/past"
)

// askPast asks for the kept past of a resource of the core group.
func askPast(t *testing.T, c kubernetes.Interface, params ...string) (*past.History, error) {
	t.Helper()
	req := c.CoreV1().RESTClient().Get().AbsPath(past.Path).Param("version", "v1")
	for i := 0; i < len(params); i += 2 {
		req = req.Param(params[i], params[i+1])
	}
	res := req.Do(t.Context())
	if err := res.Error(); err != nil {
		return nil, err
	}
	b, err := res.Raw()
	if err != nil {
		return nil, err
	}
	out := &past.History{}
	if err := json.Unmarshal(b, out); err != nil {
		t.Fatal(err)
	}
	return out, nil
}

// say is a short form of what was answered.
func say(t *testing.T, h *past.History) string {
	t.Helper()
	var out []string
	for _, o := range h.Items {
		var m corev1.ConfigMap
		if err := json.Unmarshal(o.Object, &m); err != nil {
			t.Fatal(err)
		}
		kind := "put"
		switch {
		case o.Created:
			kind = "create"
		case o.Deleted:
			kind = "delete"
		}
		if m.Kind != "ConfigMap" || m.APIVersion != "v1" || m.Name != o.Name {
			t.Errorf("the object of %s is a %s %s named %s", o.Name, m.APIVersion, m.Kind, m.Name)
		}
		out = append(out, fmt.Sprintf("%s %s=%s", kind, o.Name, m.Data["a"]))
	}
	return strings.Join(out, ", ")
}

func TestHistory(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, nil)
	ctx := t.Context()
	ns := namespace(t, s.Client, "past")
	maps := s.Client.CoreV1().ConfigMaps(ns)
	m, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "m"}, Data: map[string]string{"a": "1"}}, metav1.CreateOptions{FieldManager: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	first := m.ResourceVersion
	m.Data["a"] = "2"
	if _, err = maps.Update(ctx, m, metav1.UpdateOptions{FieldManager: "bob"}); err != nil {
		t.Fatal(err)
	}
	if err := maps.Delete(ctx, "m", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Data: map[string]string{"a": "9"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	where := []string{"resource", "configmaps", "namespace", ns}
	ask := func(want string, params ...string) *past.History {
		t.Helper()
		h, err := askPast(t, s.Client, append(where[:len(where):len(where)], params...)...)
		if err != nil {
			t.Fatal(err)
		}
		if got := say(t, h); got != want {
			t.Errorf("%v: %s; want %s", params, got, want)
		}
		return h
	}
	h := ask("create m=1, put m=2, delete m=2", "name", "m")
	if by := fmt.Sprint(h.Items[1].By); h.Items[1].Time == "" || by != "[ann bob]" && by != "[bob]" {
		t.Errorf("the second change is by %s at %q, want bob and a time", by, h.Items[1].Time)
	}
	ask("delete m=2", "deleted", "true")
	ask("create m=1", "at", first)
	ask("create m=1", "at", first, "name", "m")

	_, err = askPast(t, s.Client, append(where, "at", "1")...)
	if err != nil && !apierrors.IsResourceExpired(err) {
		t.Errorf("a revision of before: %v", err)
	}
	for _, c := range []struct {
		name, want string
		params     []string
	}{
		{"no name", "name is required", where},
		{"no resource", "keeps no resource", []string{"resource", "none"}},
		{"bad time", "want a revision, or a time", append(where, "at", "yesterday")},
	} {
		if _, err := askPast(t, s.Client, c.params...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// The past needs rights of its own: those to read a resource now are not enough.
func TestHistoryNeedsRights(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, nil)
	ctx := t.Context()
	ns := namespace(t, s.Client, "rights")
	grant := func(name string, rules ...rbacv1.PolicyRule) {
		t.Helper()
		if _, err := s.Client.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Client.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
			Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "plain"}},
		}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	plain := kubernetes.NewForConfigOrDie(s.Plain)
	params := []string{"resource", "secrets", "namespace", ns, "deleted", "true"}
	ask := func() error { _, err := askPast(t, plain, params...); return err }
	if err := ask(); !apierrors.IsForbidden(err) {
		t.Fatalf("without rights: %v", err)
	}
	grant("reader", rbacv1.PolicyRule{Verbs: []string{"*"}, APIGroups: []string{""}, Resources: []string{"secrets"}},
		rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: []string{past.Path}})
	eventually(t, func() bool {
		err := ask()
		return apierrors.IsForbidden(err) && strings.Contains(err.Error(), "secrets/history")
	})
	grant("historian", rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"secrets/history"}})
	eventually(t, func() bool { return ask() == nil })
}
