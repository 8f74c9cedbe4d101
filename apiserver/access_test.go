package apiserver_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"skiff/apiserver/apiservertest"
)

// within waits for what informers bring about.
func within(t *testing.T, what string, check func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.After(20 * time.Second)
	for !check() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

// TestAccess is about who may do what, and what they are told.
//
// Covers: api.rbac, api.authn-x509, api.access-reviews
func TestAccess(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, nil)
	ctx := t.Context()
	ns := namespace(t, s.Client, "access")
	plain := kubernetes.NewForConfigOrDie(s.Plain)

	for path, want := range map[string]string{
		"/api/v1/namespaces/access/pods":                `pods is forbidden: User \"plain\" cannot list resource \"pods\" in API group \"\" in the namespace \"access\"`,
		"/api/v1/namespaces/access/pods?watch=1":        `pods is forbidden: User \"plain\" cannot watch resource \"pods\" in API group \"\" in the namespace \"access\"`,
		"/api/v1/namespaces/access/pods/p":              `pods \"p\" is forbidden: User \"plain\" cannot get resource \"pods\" in API group \"\" in the namespace \"access\"`,
		"/api/v1/namespaces/access/pods/p/log":          `pods \"p\" is forbidden: User \"plain\" cannot get resource \"pods/log\" in API group \"\" in the namespace \"access\"`,
		"/api/v1/nodes":                                 `nodes is forbidden: User \"plain\" cannot list resource \"nodes\" in API group \"\" at the cluster scope`,
		"/apis/apps/v1/namespaces/access/deployments/d": `deployments.apps \"d\" is forbidden: User \"plain\" cannot get resource \"deployments\" in API group \"apps\" in the namespace \"access\"`,
		"/metrics":                  `forbidden: User \"plain\" cannot get path \"/metrics\"`,
		"/api/v1/namespaces/access": `namespaces \"access\" is forbidden: User \"plain\" cannot get resource \"namespaces\" in API group \"\" in the namespace \"access\"`,
		"/apis/none.example.com/v1/namespaces/access/nones": `nones.none.example.com is forbidden: User \"plain\" cannot list resource \"nones\" in API group \"none.example.com\" in the namespace \"access\"`,
	} {
		a := s.CallAs(t, s.Plain, "GET", path, "")
		if a.Code != 403 || !contains(string(a.Body), want) || !contains(string(a.Body), `"reason":"Forbidden"`) {
			t.Errorf("%s: %d %s", path, a.Code, a.Body)
		}
	}
	anonymous := &rest.Config{Host: s.Host, TLSClientConfig: rest.TLSClientConfig{CAData: s.Admin.CAData}}
	for path, code := range map[string]int{"/version": 200, "/livez": 200, "/readyz": 200, "/healthz": 200, "/api": 403, "/api/v1/nodes": 403, "/": 403} {
		if a := s.CallAs(t, anonymous, "GET", path, ""); a.Code != code {
			t.Errorf("anonymous %s: %d %s", path, a.Code, a.Body)
		}
	}
	for path, code := range map[string]int{"/api": 200, "/apis": 200, "/openapi/v3": 200, "/none": 403, "/apis/apps/v1": 200} {
		if a := s.CallAs(t, s.Plain, "GET", path, ""); a.Code != code {
			t.Errorf("plain %s: %d %s", path, a.Code, a.Body)
		}
	}
	if a := s.Call(t, "GET", "/apis/apps/v9/nones", ""); a.Code != 404 || !contains(string(a.Body), "the server could not find the requested resource") {
		t.Errorf("no such version: %d %s", a.Code, a.Body)
	}
	if a := s.Call(t, "GET", "/api/v1/nones", ""); a.Code != 404 || !contains(string(a.Body), `the server could not find the requested resource`) {
		t.Errorf("no such resource: %d %s", a.Code, a.Body)
	}
	if a := s.Call(t, "PUT", "/api/v1/nodes", "{}", "Content-Type", "application/json"); a.Code != 405 || !contains(string(a.Body), "the server does not allow this method on the requested resource") {
		t.Errorf("no such method: %d %s", a.Code, a.Body)
	}

	t.Run("wrong token", func(t *testing.T) {
		a := s.CallAs(t, s.WithToken("x"), "GET", "/api/v1/nodes", "")
		if a.Code != 401 || !contains(string(a.Body), `"message":"Unauthorized","reason":"Unauthorized","code":401`) {
			t.Errorf("%d %s", a.Code, a.Body)
		}
	})
	t.Run("whoami", func(t *testing.T) {
		got, err := plain.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		if err != nil || got.Status.UserInfo.Username != "plain" || len(got.Status.UserInfo.Groups) != 1 {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("roles", func(t *testing.T) {
		if _, err := s.Client.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "pods"}, Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"pods", "pods/exec", "configmaps"}, Verbs: []string{"*"}}}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Client.RbacV1().RoleBindings(ns).Create(ctx, &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "b"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "pods"},
			Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "plain"}},
		}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		within(t, "the binding", func() bool {
			_, err := plain.CoreV1().ConfigMaps(ns).List(ctx, metav1.ListOptions{})
			return err == nil
		})
		if _, err := plain.CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
			t.Errorf("another namespace: %v", err)
		}
		for attr, want := range map[authorizationv1.ResourceAttributes]bool{
			{Namespace: ns, Verb: "create", Resource: "pods"}:                                      true,
			{Namespace: ns, Verb: "create", Resource: "pods", Subresource: "exec"}:                 true,
			{Namespace: ns, Verb: "create", Resource: "roles", Group: "rbac.authorization.k8s.io"}: false,
			{Namespace: "default", Verb: "create", Resource: "pods"}:                               false,
			{Verb: "*", Resource: "*", Group: "*"}:                                                 false,
		} {
			got, err := plain.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &attr}}, metav1.CreateOptions{})
			if err != nil || got.Status.Allowed != want {
				t.Errorf("%+v: %+v, %v", attr, got, err)
			}
			sar, err := s.Client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: "plain", ResourceAttributes: &attr}}, metav1.CreateOptions{})
			if err != nil || sar.Status.Allowed != want {
				t.Errorf("%+v: %+v, %v", attr, sar, err)
			}
		}
		rules, err := plain.AuthorizationV1().SelfSubjectRulesReviews().Create(ctx, &authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: ns}}, metav1.CreateOptions{})
		if err != nil || len(rules.Status.ResourceRules) < 2 || len(rules.Status.NonResourceRules) == 0 {
			t.Errorf("%+v, %v", rules, err)
		}
		// Nobody gives what he has not.
		if _, err := s.Client.RbacV1().Roles(ns).Create(ctx, &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Rules: []rbacv1.PolicyRule{{APIGroups: []string{"rbac.authorization.k8s.io"}, Resources: []string{"roles"}, Verbs: []string{"create"}}}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Client.RbacV1().RoleBindings(ns).Create(ctx, &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "r"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "r"},
			Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "plain"}},
		}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		within(t, "the refusal", func() bool {
			_, err := plain.RbacV1().Roles(ns).Create(ctx, &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "x"}, Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"delete"}}}}, metav1.CreateOptions{})
			return apierrors.IsForbidden(err) && contains(err.Error(), "is attempting to grant RBAC permissions not currently held")
		})
	})
	t.Run("impersonation", func(t *testing.T) {
		cfg := rest.CopyConfig(s.Admin)
		cfg.Impersonate = rest.ImpersonationConfig{UserName: "someone", Groups: []string{"g"}, Extra: map[string][]string{"scopes": {"a"}}}
		got, err := kubernetes.NewForConfigOrDie(cfg).AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		if err != nil || got.Status.UserInfo.Username != "someone" || strings.Join(got.Status.UserInfo.Groups, ",") != "g,system:authenticated" || len(got.Status.UserInfo.Extra["scopes"]) != 1 {
			t.Errorf("%+v, %v", got, err)
		}
		cfg = rest.CopyConfig(s.Plain)
		cfg.Impersonate = rest.ImpersonationConfig{UserName: "someone"}
		_, err = kubernetes.NewForConfigOrDie(cfg).CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
		if err == nil || err.Error() != `users.authentication.k8s.io "someone" is forbidden: User "plain" cannot impersonate:user-info resource "users" in API group "authentication.k8s.io" at the cluster scope` {
			t.Errorf("got %v", err)
		}
	})
	t.Run("tokens of service accounts", func(t *testing.T) {
		sa, err := s.Client.CoreV1().ServiceAccounts(ns).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "sa"}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Client.CoreV1().ServiceAccounts(ns).CreateToken(ctx, "sa", &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr(int64(600))}}, metav1.CreateOptions{})
		if err != nil || got.Status.Token == "" || time.Until(got.Status.ExpirationTimestamp.Time) > 11*time.Minute {
			t.Fatalf("%+v, %v", got, err)
		}
		c := kubernetes.NewForConfigOrDie(s.WithToken(got.Status.Token))
		who, err := c.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		if err != nil || who.Status.UserInfo.Username != "system:serviceaccount:access:sa" || who.Status.UserInfo.UID != string(sa.UID) {
			t.Errorf("%+v, %v", who, err)
		}
		review, err := s.Client.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: got.Status.Token}}, metav1.CreateOptions{})
		if err != nil || !review.Status.Authenticated || review.Status.User.Username != "system:serviceaccount:access:sa" {
			t.Errorf("%+v, %v", review, err)
		}
		review, err = s.Client.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: "x"}}, metav1.CreateOptions{})
		if err != nil || review.Status.Authenticated {
			t.Errorf("%+v, %v", review, err)
		}
		got, err = s.Client.CoreV1().ServiceAccounts(ns).CreateToken(ctx, "sa", &authenticationv1.TokenRequest{}, metav1.CreateOptions{DryRun: []string{"All"}})
		if err != nil || got.Status.Token == "" {
			t.Errorf("a dry run: %+v, %v", got, err)
		}
		if _, err := s.Client.CoreV1().ServiceAccounts(ns).CreateToken(ctx, "sa", &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr(int64(5))}}, metav1.CreateOptions{}); !apierrors.IsInvalid(err) || !contains(err.Error(), "may not specify a duration less than 10 minutes") {
			t.Errorf("a short one: %v", err)
		}
		if err := s.Client.CoreV1().ServiceAccounts(ns).Delete(ctx, "sa", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		within(t, "the token's end", func() bool {
			_, err := c.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
			return apierrors.IsUnauthorized(err)
		})
	})
	t.Run("answers tell who sent their fields", func(t *testing.T) {
		if _, err := s.Client.CoreV1().ServiceAccounts(ns).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "asked"}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		for path, tc := range map[string]struct{ body, want string }{
			"/api/v1/namespaces/" + ns + "/serviceaccounts/asked/token": {`{"spec":{"audiences":["a"]}}`, `{"f:spec":{"f:audiences":{},"f:expirationSeconds":{}}}`},
			"/apis/authentication.k8s.io/v1/tokenreviews":               {`{"spec":{"token":"x"}}`, `{"f:spec":{"f:token":{}}}`},
			"/apis/authorization.k8s.io/v1/selfsubjectaccessreviews":    {`{"spec":{"nonResourceAttributes":{"path":"/"}}}`, `{"f:spec":{"f:nonResourceAttributes":{".":{},"f:path":{}}}}`},
			"/apis/authorization.k8s.io/v1/subjectaccessreviews":        {`{"spec":{"user":"u","nonResourceAttributes":{"path":"/"}}}`, `{"f:spec":{"f:nonResourceAttributes":{".":{},"f:path":{}},"f:user":{}}}`},
			"/apis/authorization.k8s.io/v1/namespaces/" + ns + "/localsubjectaccessreviews": {
				`{"spec":{"user":"u","resourceAttributes":{"namespace":"` + ns + `","verb":"get"}}}`, `{"f:spec":{"f:resourceAttributes":{".":{},"f:namespace":{},"f:verb":{}},"f:user":{}}}`},
			"/apis/authentication.k8s.io/v1/selfsubjectreviews":     {`{}`, ``},
			"/apis/authorization.k8s.io/v1/selfsubjectrulesreviews": {`{"spec":{"namespace":"` + ns + `"}}`, ``},
		} {
			a := s.Call(t, "POST", path+"?fieldManager=me", tc.body, "Content-Type", "application/json")
			var got struct {
				Metadata metav1.ObjectMeta `json:"metadata"`
			}
			if err := json.Unmarshal(a.Body, &got); err != nil || a.Code != 201 {
				t.Errorf("%s: %v %d %s", path, err, a.Code, a.Body)
				continue
			}
			said := ""
			for _, m := range got.Metadata.ManagedFields {
				if said += string(m.FieldsV1.Raw); m.Manager != "me" || m.Operation != metav1.ManagedFieldsOperationUpdate {
					t.Errorf("%s: %+v", path, m)
				}
			}
			if said != tc.want {
				t.Errorf("%s: %s, want %s", path, said, tc.want)
			}
		}
	})
	t.Run("health", func(t *testing.T) {
		for path, want := range map[string]string{
			"/readyz": "ok", "/livez": "ok", "/healthz": "ok", "/readyz/ping": "ok", "/readyz?verbose": "readyz check passed", "/livez?verbose": "livez check passed",
			"/readyz/poststarthook/rbac/bootstrap-roles": "ok", "/healthz/etcd": "ok",
			"/readyz?verbose&exclude=etcd&exclude=none&exclude=a": "[+]etcd excluded: ok\n[+]etcd-readiness ok\nwarn: some health checks cannot be excluded: no matches for \"a\", \"none\"\nreadyz check passed",
			"/metrics/slis": `kubernetes_healthcheck{name="etcd",type="readyz"} 1`,
			"/metrics":      "apiserver_request_total{", "/version": `"gitVersion": "v1.37.2+skiff`, "/openid/v1/jwks": `"keys"`, "/.well-known/openid-configuration": `"issuer"`,
		} {
			if a := s.Call(t, "GET", path, ""); a.Code != 200 || !contains(string(a.Body), want) {
				t.Errorf("%s: %d %.300s", path, a.Code, a.Body)
			}
		}
		for path, code := range map[string]int{"/livez": 200, "/readyz/ping": 200, "/readyz/none": 404, "/livez/": 404, "/api/v1/pods": 405, "/api/v1/namespaces/default": 405, "/api/v1/none": 404, "/version": 405, "/version/": 405, "/": 200, "/api": 405, "/api/v1": 405, "/api/v2": 404, "/apis": 200, "/apis/apps/v1": 405, "/apis/apps/v9": 404, "/openid/v1/jwks": 405, "/.well-known/openid-configuration": 405} {
			if a := s.Call(t, "HEAD", path, ""); a.Code != code {
				t.Errorf("HEAD %s: %d, want %d", path, a.Code, code)
			}
		}
		for _, path := range []string{"/apis/none.example.com", "/apis/none.example.com/v1", "/apis/none.example.com/v1/things"} {
			if a := s.Call(t, "GET", path, ""); a.Code != 404 || string(a.Body) != "404 page not found\n" {
				t.Errorf("%s of no group: %d %s", path, a.Code, a.Body)
			}
		}
		reviews := "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews?dryRun=some"
		if a := s.Call(t, "POST", reviews, "{}", "Content-Type", "application/json"); a.Code != 422 || !contains(string(a.Body), `dryRun: Unsupported value: [\"some\"]: supported values: \"All\"`) {
			t.Errorf("a review that is tried somehow: %d %s", a.Code, a.Body)
		}
		a := s.Call(t, "GET", "/", "")
		var doc metav1.RootPaths
		if err := json.Unmarshal(a.Body, &doc); err != nil || len(doc.Paths) < 10 {
			t.Errorf("the index: %v %d %.300s", err, a.Code, a.Body)
		}
	})
	t.Run("componentstatuses as a table", func(t *testing.T) {
		for path, rows := range map[string]int{"/api/v1/componentstatuses": 3, "/api/v1/componentstatuses/etcd-0": 1} {
			a := s.Call(t, "GET", path, "", "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
			var table metav1.Table
			if err := json.Unmarshal(a.Body, &table); err != nil || len(table.Rows) != rows || len(table.ColumnDefinitions) != 4 || table.Rows[rows-1].Cells[1] != "Healthy" {
				t.Errorf("%v %s", err, a.Body)
			}
		}
	})
	t.Run("openapi", func(t *testing.T) {
		c := s.Client.Discovery()
		doc, err := c.OpenAPISchema()
		if err != nil || len(doc.Paths.Path) < 100 {
			t.Errorf("v2: %v", err)
		}
		docs, err := c.OpenAPIV3().Paths()
		if err != nil {
			t.Fatal(err)
		}
		for path, gv := range docs {
			if _, err := gv.Schema("application/json"); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	})
}

// TestServices is about what a Service is given.
//
// Covers: api.service-ips
func TestServices(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, nil)
	ctx := t.Context()
	ns := namespace(t, s.Client, "services")
	services := s.Client.CoreV1().Services(ns)
	make := func(name string, change func(*corev1.Service)) (*corev1.Service, error) {
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Selector: map[string]string{"a": "b"}, Ports: []corev1.ServicePort{{Name: "p", Port: 80}}}}
		if change != nil {
			change(svc)
		}
		return services.Create(ctx, svc, metav1.CreateOptions{})
	}
	a, err := make("a", nil)
	if err != nil || a.Spec.ClusterIP == "" || a.Spec.Type != corev1.ServiceTypeClusterIP || len(a.Spec.ClusterIPs) != 1 || *a.Spec.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack || a.Spec.IPFamilies[0] != corev1.IPv4Protocol || a.Spec.SessionAffinity != corev1.ServiceAffinityNone || *a.Spec.InternalTrafficPolicy != corev1.ServiceInternalTrafficPolicyCluster {
		t.Fatalf("%+v, %v", a, err)
	}
	_, err = make("b", func(s *corev1.Service) { s.Spec.ClusterIP = a.Spec.ClusterIP })
	if !apierrors.IsInvalid(err) || !contains(err.Error(), `spec.clusterIPs: Invalid value: ["`+a.Spec.ClusterIP+`"]: failed to allocate IP `+a.Spec.ClusterIP+`: provided IP is already allocated`) {
		t.Errorf("twice: %v", err)
	}
	_, err = make("b", func(s *corev1.Service) { s.Spec.ClusterIP = "192.0.2.77" })
	if !apierrors.IsInvalid(err) || !contains(err.Error(), "failed to allocate IP 192.0.2.77") {
		t.Errorf("outside: %v", err)
	}
	if err := services.Delete(ctx, "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	within(t, "the address is free again", func() bool {
		b, err := make("b", func(s *corev1.Service) { s.Spec.ClusterIP = a.Spec.ClusterIP })
		return err == nil && b.Spec.ClusterIP == a.Spec.ClusterIP
	})
	np, err := make("np", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort; s.Spec.Ports[0].NodePort = 30123 })
	if err != nil || np.Spec.Ports[0].NodePort != 30123 {
		t.Fatalf("%+v, %v", np, err)
	}
	_, err = make("np2", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort; s.Spec.Ports[0].NodePort = 30123 })
	if !apierrors.IsInvalid(err) || !contains(err.Error(), "spec.ports[0].nodePort: Invalid value: 30123: provided port is already allocated") {
		t.Errorf("a port twice: %v", err)
	}
	_, err = make("np2", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort; s.Spec.Ports[0].NodePort = 80 })
	if !apierrors.IsInvalid(err) || !contains(err.Error(), "provided port is not in the valid range. The range of valid ports is 30000-32767") {
		t.Errorf("a port outside: %v", err)
	}
	np.Spec.Type = corev1.ServiceTypeClusterIP
	np.Spec.Ports[0].NodePort = 0
	if np, err = services.Update(ctx, np, metav1.UpdateOptions{}); err != nil || np.Spec.Ports[0].NodePort != 0 {
		t.Errorf("to ClusterIP: %+v, %v", np, err)
	}
	within(t, "the port is free again", func() bool {
		got, err := make("np3", func(s *corev1.Service) {
			s.Spec.Type = corev1.ServiceTypeLoadBalancer
			s.Spec.Ports[0].NodePort = 30123
		})
		return err == nil && *got.Spec.AllocateLoadBalancerNodePorts && got.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyCluster
	})
	none, err := make("headless", func(s *corev1.Service) { s.Spec.ClusterIP = "None" })
	if err != nil || none.Spec.ClusterIPs[0] != "None" {
		t.Errorf("headless: %+v, %v", none, err)
	}
	ext, err := make("ext", func(s *corev1.Service) {
		s.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.com"}
	})
	if err != nil || ext.Spec.ClusterIP != "" || len(ext.Spec.IPFamilies) != 0 {
		t.Errorf("external: %+v, %v", ext, err)
	}
	ext.Spec.Type, ext.Spec.ExternalName, ext.Spec.Ports = corev1.ServiceTypeClusterIP, "", []corev1.ServicePort{{Port: 80}}
	if ext, err = services.Update(ctx, ext, metav1.UpdateOptions{}); err != nil || ext.Spec.ClusterIP == "" {
		t.Errorf("external to ClusterIP: %+v, %v", ext, err)
	}
	t.Run("keeps what an update leaves out", func(t *testing.T) {
		b, err := services.Get(ctx, "b", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want := b.Spec.ClusterIP
		b.Spec.ClusterIP, b.Spec.ClusterIPs = "", nil
		if b, err = services.Update(ctx, b, metav1.UpdateOptions{}); err != nil || b.Spec.ClusterIP != want {
			t.Errorf("%+v, %v", b, err)
		}
		b.Spec.ClusterIP, b.Spec.ClusterIPs = "10.96.0.77", []string{"10.96.0.77"}
		if _, err = services.Update(ctx, b, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) || !contains(err.Error(), "may not change once set") {
			t.Errorf("another address: %v", err)
		}
	})
	t.Run("a dry run keeps nothing", func(t *testing.T) {
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "dry"}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.99", Ports: []corev1.ServicePort{{Port: 80}}}}
		for range 2 {
			if _, err := services.Create(ctx, svc.DeepCopy(), metav1.CreateOptions{DryRun: []string{"All"}}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := services.Create(ctx, svc, metav1.CreateOptions{}); err != nil {
			t.Error(err)
		}
	})
	t.Run("a restart knows what is taken", func(t *testing.T) {
		s.Stop()
		s2 := apiservertest.StartIn(t, s.Dir, nil)
		_, err := s2.Client.CoreV1().Services(ns).Create(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "dry2"}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.99", Ports: []corev1.ServicePort{{Port: 80}}}}, metav1.CreateOptions{})
		if !apierrors.IsInvalid(err) {
			t.Errorf("got %v", err)
		}
	})
}
