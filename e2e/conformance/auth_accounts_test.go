package conformance

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	jose "gopkg.in/go-jose/go-jose.v2"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
)

const tokenFolder = "/var/run/secrets/kubernetes.io/serviceaccount"

// account makes a service account.
func (s *space) account(name string, edit func(*corev1.ServiceAccount)) *corev1.ServiceAccount {
	s.t.Helper()
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if edit != nil {
		edit(sa)
	}
	sa, err := s.client.CoreV1().ServiceAccounts(s.name).Create(s.ctx, sa, metav1.CreateOptions{})
	s.must(err)
	return sa
}

// Conformance: [sig-auth] ServiceAccounts should mount an API token into pods
func TestAuthTokenMounted(t *testing.T) {
	s := parallel(t)
	s.account("mount", nil)
	p := shellPod("pod", "sleep 3600")
	p.Spec.ServiceAccountName = "mount"
	s.ready(p)
	token := s.mustExec("pod", "main", "cat", tokenFolder+"/token")
	ca := s.mustExec("pod", "main", "cat", tokenFolder+"/ca.crt")
	equal(s, "the namespace", s.name, s.mustExec("pod", "main", "cat", tokenFolder+"/namespace"))
	root, err := s.client.CoreV1().ConfigMaps(s.name).Get(s.ctx, "kube-root-ca.crt", metav1.GetOptions{})
	s.must(err)
	equal(s, "the root certificates", root.Data["ca.crt"], ca)
	review, err := s.client.AuthenticationV1().TokenReviews().Create(s.ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
	s.must(err)
	if !review.Status.Authenticated || review.Status.Error != "" || review.Status.User.Username != "system:serviceaccount:"+s.name+":mount" {
		t.Errorf("the review says %+v", review.Status)
	}
	for _, group := range []string{"system:serviceaccounts", "system:serviceaccounts:" + s.name, "system:authenticated"} {
		if !slices.Contains(review.Status.User.Groups, group) {
			t.Errorf("the groups are %v, want %s among them", review.Status.User.Groups, group)
		}
	}
	if got := review.Status.User.Extra["authentication.kubernetes.io/pod-name"]; len(got) != 1 || got[0] != "pod" {
		t.Errorf("the token is of the pod %v", got)
	}
	// The token is good for what its account may: nothing in the namespace yet.
	config := rest.AnonymousClientConfig(s.config)
	config.BearerToken = token
	client, err := kubernetes.NewForConfig(config)
	s.must(err)
	if _, err := client.CoreV1().Pods(s.name).List(s.ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a list with the token: %v, want forbidden", err)
	}
}

// Conformance: [sig-auth] ServiceAccounts should allow opting out of API token automount
func TestAuthAutomount(t *testing.T) {
	s := parallel(t)
	for name, automount := range map[string]*bool{"default-sa": nil, "mount-sa": ptr.To(true), "nomount-sa": ptr.To(false)} {
		s.account(name, func(sa *corev1.ServiceAccount) { sa.AutomountServiceAccountToken = automount })
	}
	for _, tc := range []struct {
		account string
		pod     *bool
		mounted bool
	}{
		{"default-sa", nil, true}, {"mount-sa", nil, true}, {"nomount-sa", nil, false},
		{"default-sa", ptr.To(true), true}, {"mount-sa", ptr.To(true), true}, {"nomount-sa", ptr.To(true), true},
		{"default-sa", ptr.To(false), false}, {"mount-sa", ptr.To(false), false}, {"nomount-sa", ptr.To(false), false},
	} {
		p := probePod("pod", "serve")
		p.Name = ""
		p.GenerateName = "pod-"
		p.Spec.ServiceAccountName, p.Spec.AutomountServiceAccountToken = tc.account, tc.pod
		p = s.pod(p)
		mounted := slices.ContainsFunc(p.Spec.Containers[0].VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == tokenFolder })
		if mounted != tc.mounted {
			t.Errorf("a pod of %s with automount %v has the mount: %v, want %v", tc.account, tc.pod, mounted, tc.mounted)
		}
	}
}

// Conformance: [sig-auth] ServiceAccounts should mount projected service account token
func TestAuthProjectedToken(t *testing.T) {
	s := parallel(t)
	p := shellPod("pod", "stat -L -c '%a %u' /test/token; cut -d. -f2 /test/token")
	p.Spec.Volumes = []corev1.Volume{{Name: "token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
		{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr.To[int64](3600), Audience: "e2e"}},
	}}}}}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "token", MountPath: "/test"}}
	out := strings.Fields(s.output(p))
	if len(out) != 3 || out[0] != "644" {
		t.Fatalf("the pod says %q", out)
	}
	claims := claimsOf(s, "x."+out[2]+".x")
	equal(s, "the audience", "[e2e]", fmt.Sprint(claims["aud"]))
	equal(s, "the subject", any("system:serviceaccount:"+s.name+":default"), claims["sub"])
	if life := claims["exp"].(float64) - claims["iat"].(float64); life < 3600 {
		t.Errorf("the token lives for %v s, want 3600 at least", life)
	}
}

// claimsOf are what a token says.
func claimsOf(s *space, token string) map[string]any {
	s.t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		s.t.Fatalf("the token has %d parts", len(parts))
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	s.must(err)
	out := map[string]any{}
	s.must(json.Unmarshal(b, &out))
	return out
}

// Conformance: [sig-auth] ServiceAccounts should run through the lifecycle of a ServiceAccount
// Conformance: [sig-auth] ServiceAccounts should update a ServiceAccount
func TestAuthAccountLife(t *testing.T) {
	s := parallel(t)
	c := s.client.CoreV1().ServiceAccounts(s.name)
	w := s.watching(c.Watch(s.ctx, metav1.ListOptions{LabelSelector: "test-serviceaccount-static=true"}))
	s.account("sa", func(sa *corev1.ServiceAccount) { sa.Labels = map[string]string{"test-serviceaccount-static": "true"} })
	w.next(watch.Added, "the account", isNamed("sa"))
	sa, err := c.Patch(s.ctx, "sa", types.StrategicMergePatchType, []byte(`{"automountServiceAccountToken":false}`), metav1.PatchOptions{})
	s.must(err)
	equal(s, "the automount", false, *sa.AutomountServiceAccountToken)
	w.next(watch.Modified, "the account", nil)
	all, err := s.client.CoreV1().ServiceAccounts("").List(s.ctx, metav1.ListOptions{LabelSelector: "test-serviceaccount-static=true"})
	s.must(err)
	if !slices.ContainsFunc(all.Items, func(a corev1.ServiceAccount) bool {
		return a.Name == "sa" && a.Namespace == s.name && !*a.AutomountServiceAccountToken
	}) {
		t.Errorf("the list has %+v", all.Items)
	}
	sa.AutomountServiceAccountToken = ptr.To(true)
	sa, err = c.Update(s.ctx, sa, metav1.UpdateOptions{})
	s.must(err)
	equal(s, "the updated automount", true, *sa.AutomountServiceAccountToken)
	w.next(watch.Modified, "the account", nil)
	s.must(c.DeleteCollection(s.ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "test-serviceaccount-static=true"}))
	w.until(watch.Deleted, "the account", isNamed("sa"))
}

// Conformance: [sig-auth] ServiceAccounts should create a serviceAccountToken and ensure a successful TokenReview
func TestAuthTokenReview(t *testing.T) {
	s := parallel(t)
	sa := s.account("sa", nil)
	token, err := s.client.CoreV1().ServiceAccounts(s.name).CreateToken(s.ctx, "sa", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	s.must(err)
	if token.Status.Token == "" || token.Status.ExpirationTimestamp.IsZero() {
		t.Fatalf("the token is %+v", token.Status)
	}
	review, err := s.client.AuthenticationV1().TokenReviews().Create(s.ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token.Status.Token}}, metav1.CreateOptions{})
	s.must(err)
	if !review.Status.Authenticated || review.Status.Error != "" || review.Status.User.UID != string(sa.UID) {
		t.Errorf("the review says %+v", review.Status)
	}
	s.must(s.client.CoreV1().ServiceAccounts(s.name).Delete(s.ctx, "sa", metav1.DeleteOptions{}))
	s.eventually(30*time.Second, "the token dies with its account", func() error {
		review, err := s.client.AuthenticationV1().TokenReviews().Create(s.ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token.Status.Token}}, metav1.CreateOptions{})
		if err == nil && review.Status.Authenticated {
			err = fmt.Errorf("it is good still")
		}
		return err
	})
}

// Conformance: [sig-auth] ServiceAccounts should guarantee kube-root-ca.crt exist in any namespace
func TestAuthRootCertificates(t *testing.T) {
	s := parallel(t)
	c := s.client.CoreV1().ConfigMaps(s.name)
	right := func(what string) {
		t.Helper()
		s.eventually(30*time.Second, "the root certificates are "+what, func() error {
			cm, err := c.Get(s.ctx, "kube-root-ca.crt", metav1.GetOptions{})
			if err == nil && (len(cm.Data) != 1 || !strings.HasPrefix(cm.Data["ca.crt"], "-----BEGIN CERTIFICATE-----")) {
				err = fmt.Errorf("the data is %v", cm.Data)
			}
			return err
		})
	}
	right("there")
	s.must(c.Delete(s.ctx, "kube-root-ca.crt", metav1.DeleteOptions{}))
	right("made again")
	s.eventually(10*time.Second, "an update", func() error {
		cm, err := c.Get(s.ctx, "kube-root-ca.crt", metav1.GetOptions{})
		if err != nil {
			return err
		}
		cm.Data = map[string]string{"ca.crt": ""}
		_, err = c.Update(s.ctx, cm, metav1.UpdateOptions{})
		return err
	})
	right("put right")
}

// Conformance: [sig-auth] SubjectReview should support SubjectReview API operations
func TestAuthSubjectReviews(t *testing.T) {
	s := parallel(t)
	s.account("e2e", nil)
	user := "system:serviceaccount:" + s.name + ":e2e"
	config := rest.CopyConfig(s.config)
	config.Impersonate = rest.ImpersonationConfig{UserName: user}
	as, err := kubernetes.NewForConfig(config)
	s.must(err)
	agree := func(want bool) error {
		attributes := &authorizationv1.ResourceAttributes{Verb: "list", Resource: "configmaps", Version: "v1", Namespace: s.name}
		sar, err := s.client.AuthorizationV1().SubjectAccessReviews().Create(s.ctx, &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{ResourceAttributes: attributes, User: user}}, metav1.CreateOptions{})
		s.must(err)
		local, err := s.client.AuthorizationV1().LocalSubjectAccessReviews(s.name).Create(s.ctx, &authorizationv1.LocalSubjectAccessReview{
			ObjectMeta: metav1.ObjectMeta{Namespace: s.name}, Spec: authorizationv1.SubjectAccessReviewSpec{ResourceAttributes: attributes, User: user}}, metav1.CreateOptions{})
		s.must(err)
		self, err := as.AuthorizationV1().SelfSubjectAccessReviews().Create(s.ctx, &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: attributes}}, metav1.CreateOptions{})
		s.must(err)
		_, err = as.CoreV1().ConfigMaps(s.name).List(s.ctx, metav1.ListOptions{})
		if err != nil && !apierrors.IsForbidden(err) {
			s.must(err)
		}
		for name, got := range map[string]bool{"the review": sar.Status.Allowed, "the local review": local.Status.Allowed, "the own review": self.Status.Allowed, "the call": err == nil} {
			if got != want {
				return fmt.Errorf("%s says %v, want %v", name, got, want)
			}
		}
		return nil
	}
	s.must(agree(false))
	_, err = s.client.RbacV1().RoleBindings(s.name).Create(s.ctx, &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "view"},
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: "e2e", Namespace: s.name}},
	}, metav1.CreateOptions{})
	s.must(err)
	s.eventually(15*time.Second, "the binding counts", func() error { return agree(true) })
}

// Conformance: [sig-auth] ServiceAccounts ServiceAccountIssuerDiscovery should support OIDC discovery of service account issuer
func TestAuthIssuerDiscovery(t *testing.T) {
	s := parallel(t)
	// The pod's own token opens the documents, and is checked against them.
	s.ready(probePod("pod", "serve"))
	token := s.mustExec("pod", "main", "/probe", "cat", tokenFolder+"/token")
	claims := claimsOf(s, token)
	config := rest.AnonymousClientConfig(s.config)
	config.BearerToken = token
	client, err := kubernetes.NewForConfig(config)
	s.must(err)
	get := func(path string, into any) {
		t.Helper()
		b, err := client.Discovery().RESTClient().Get().AbsPath(path).DoRaw(context.Background())
		s.must(err)
		s.must(json.Unmarshal(b, into))
	}
	var document struct {
		Issuer  string   `json:"issuer"`
		JWKSURI string   `json:"jwks_uri"`
		Types   []string `json:"response_types_supported"`
		Subject []string `json:"subject_types_supported"`
		Signing []string `json:"id_token_signing_alg_values_supported"`
	}
	get("/.well-known/openid-configuration", &document)
	equal(s, "the issuer", claims["iss"], any(document.Issuer))
	if !strings.HasSuffix(document.JWKSURI, "/openid/v1/jwks") || len(document.Types) != 1 || len(document.Subject) != 1 || len(document.Signing) == 0 {
		t.Errorf("the document is %+v", document)
	}
	var keys jose.JSONWebKeySet
	get("/openid/v1/jwks", &keys)
	signed, err := jose.ParseSigned(token)
	s.must(err)
	known := keys.Key(signed.Signatures[0].Header.KeyID)
	if len(known) != 1 {
		t.Fatalf("the key set has %d keys of the id %q", len(known), signed.Signatures[0].Header.KeyID)
	}
	_, err = signed.Verify(known[0])
	s.must(err)
	out := s.mustExec("pod", "main", "/probe", "api", "/.well-known/openid-configuration")
	if !strings.Contains(out, document.Issuer) {
		t.Errorf("the pod reads %q", out)
	}
}
