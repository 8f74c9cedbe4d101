package conformance

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
)

// A WebSocket is a GET, and yet to run something is to create.
func TestAuthExecIsCreate(t *testing.T) {
	s := parallel(t)
	s.ready(probePod("pod", "serve"))
	s.account("runner", nil)
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "runner"}, Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods/exec"}, Verbs: []string{"get"}}}}
	_, err := s.client.RbacV1().Roles(s.name).Create(s.ctx, role, metav1.CreateOptions{})
	s.must(err)
	_, err = s.client.RbacV1().RoleBindings(s.name).Create(s.ctx, &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "runner"},
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "runner"},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: "runner", Namespace: s.name}},
	}, metav1.CreateOptions{})
	s.must(err)
	config := rest.CopyConfig(s.config)
	config.Impersonate.UserName = "system:serviceaccount:" + s.name + ":runner"
	url := s.client.CoreV1().RESTClient().Post().Resource("pods").Namespace(s.name).Name("pod").SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Command: []string{"/probe", "echo", "hi"}, Stdout: true}, scheme.ParameterCodec).URL()
	run := func() (string, error) {
		e, err := remotecommand.NewWebSocketExecutor(config, "GET", url.String())
		if err != nil {
			return "", err
		}
		var out strings.Builder
		err = e.StreamWithContext(s.ctx, remotecommand.StreamOptions{Stdout: &out})
		return out.String(), err
	}
	s.eventually(15*time.Second, "the refusal of one who may only get", func() error {
		_, err := run()
		if err != nil && strings.Contains(err.Error(), "create") {
			return nil
		}
		return fmt.Errorf("answer %v", err)
	})
	role.Rules[0].Verbs = []string{"get", "create"}
	_, err = s.client.RbacV1().Roles(s.name).Update(s.ctx, role, metav1.UpdateOptions{})
	s.must(err)
	s.eventually(15*time.Second, "one who may create", func() error {
		out, err := run()
		if err == nil && out == "hi\n" {
			return nil
		}
		return fmt.Errorf("it said %q, %v", out, err)
	})
}
