package bootstrap

import (
	"context"
	"fmt"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sync"
)

const (
	bootstrapLabel = "kubernetes.io/bootstrapping"
	autoUpdate     = "rbac.authorization.kubernetes.io/autoupdate"
	toAdmin        = "rbac.authorization.k8s.io/aggregate-to-admin"
	toEdit         = "rbac.authorization.k8s.io/aggregate-to-edit"
	toView         = "rbac.authorization.k8s.io/aggregate-to-view"
)

// roles makes the default roles and bindings, and gives those that exist the
// rules and subjects that were taken from them, unless their annotation says no.
func roles(ctx context.Context, c Config) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	slots := make(chan struct{}, 32)
	do := func(name string, f func() error) {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := f(); err != nil {
				mu.Lock()
				defer mu.Unlock()
				if first == nil {
					first = fmt.Errorf("role %s: %w", name, err)
				}
			}
		})
	}
	for _, r := range clusterRoles() {
		do(r.Name, func() error { return reconcileRole(ctx, c, r) })
	}
	for _, b := range clusterRoleBindings() {
		do(b.Name, func() error { return reconcileBinding(ctx, c, b) })
	}
	wg.Wait()
	if first != nil {
		return first
	}
	for _, r := range namespacedRoles() {
		do(r.Name, func() error { return makeOne(ctx, c.Client.RbacV1().Roles(r.Namespace), r, metav1.CreateOptions{}) })
	}
	for _, b := range namespacedBindings() {
		do(b.Name, func() error {
			return makeOne(ctx, c.Client.RbacV1().RoleBindings(b.Namespace), b, metav1.CreateOptions{})
		})
	}
	wg.Wait()
	return first
}

func reconcileRole(ctx context.Context, c Config, want *rbacv1.ClusterRole) error {
	client := c.Client.RbacV1().ClusterRoles()
	_, err := client.Create(ctx, want, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	have, err := client.Get(ctx, want.Name, metav1.GetOptions{})
	if err != nil || have.Annotations[autoUpdate] == "false" {
		return err
	}
	changed := false
	for _, r := range want.Rules {
		if !slices.ContainsFunc(have.Rules, func(h rbacv1.PolicyRule) bool { return equality.Semantic.DeepEqual(h, r) }) {
			have.Rules = append(have.Rules, r)
			changed = true
		}
	}
	if !changed || want.AggregationRule != nil {
		return nil
	}
	_, err = client.Update(ctx, have, metav1.UpdateOptions{})
	return err
}

func reconcileBinding(ctx context.Context, c Config, want *rbacv1.ClusterRoleBinding) error {
	client := c.Client.RbacV1().ClusterRoleBindings()
	_, err := client.Create(ctx, want, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	have, err := client.Get(ctx, want.Name, metav1.GetOptions{})
	if err != nil || have.Annotations[autoUpdate] == "false" || have.RoleRef != want.RoleRef {
		return err
	}
	changed := false
	for _, s := range want.Subjects {
		if !slices.Contains(have.Subjects, s) {
			have.Subjects = append(have.Subjects, s)
			changed = true
		}
	}
	if !changed {
		return nil
	}
	_, err = client.Update(ctx, have, metav1.UpdateOptions{})
	return err
}

func defaults(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Labels: map[string]string{bootstrapLabel: "rbac-defaults"}, Annotations: map[string]string{autoUpdate: "true"}}
}

// rule is a rule about resources: verbs on resources of groups.
func rule(verbs, groups, resources []string, names ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: verbs, APIGroups: groups, Resources: resources, ResourceNames: names}
}

func l(s ...string) []string { return s }

// paths is a rule to read what is no resource.
func paths(urls ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: get, NonResourceURLs: urls}
}

var (
	get       = l("get")
	follow    = l("list", "watch")
	read      = l("get", "list", "watch")
	create    = l("create")
	update    = l("update")
	amend     = l("patch", "update")
	write     = l("create", "delete", "deletecollection", "patch", "update")
	readWrite = l("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")

	all        = l("*")
	coreGroup  = l("")
	apps       = l("apps")
	authentic  = l("authentication.k8s.io")
	authorize  = l("authorization.k8s.io")
	autoscale  = l("autoscaling")
	batch      = l("batch")
	certs      = l("certificates.k8s.io")
	discovery  = l("discovery.k8s.io")
	extensions = l("extensions")
	leases     = l("coordination.k8s.io")
	networking = l("networking.k8s.io")
	policy     = l("policy")
	rbac       = l("rbac.authorization.k8s.io")
	resource   = l("resource.k8s.io")
	storage    = l("storage.k8s.io")
	workloads  = l("apps", "extensions")

	// tell is the right to report events.
	tell = rule(l("create", "patch", "update"), l("", "events.k8s.io"), l("events"))
)

func role(name string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{ObjectMeta: defaults(name), Rules: rules}
}

func bind(role string, subjects ...rbacv1.Subject) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{ObjectMeta: defaults(role), RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}, Subjects: subjects}
}

func groupSubject(name string) rbacv1.Subject {
	return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: name}
}

func userSubject(name string) rbacv1.Subject {
	return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}
}

func accountSubject(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: "kube-system", Name: name}
}

func namespacedRoles() []*rbacv1.Role {
	in := func(ns, name string, rules ...rbacv1.PolicyRule) *rbacv1.Role {
		m := defaults(name)
		m.Namespace = ns
		return &rbacv1.Role{ObjectMeta: m, Rules: rules}
	}
	lock := []rbacv1.PolicyRule{rule(l("create", "get", "list", "update", "watch"), leases, l("leases")),
		rule(l("create", "get", "list", "update", "watch"), leases, l("leasecandidates"))}
	return []*rbacv1.Role{
		in("kube-system", "extension-apiserver-authentication-reader", rule(read, coreGroup, l("configmaps"), "extension-apiserver-authentication")),
		in("kube-system", "system::leader-locking-kube-controller-manager", lock...),
		in("kube-system", "system::leader-locking-kube-scheduler", lock...),
		in("kube-system", "system:controller:bootstrap-signer", rule(read, coreGroup, l("secrets"))),
		in("kube-system", "system:controller:cloud-provider", rule(l("create", "get", "list", "watch"), coreGroup, l("configmaps"))),
		in("kube-system", "system:controller:token-cleaner", rule(l("delete", "get", "list", "watch"), coreGroup, l("secrets")), tell),
		in("kube-public", "system:controller:bootstrap-signer", rule(read, coreGroup, l("configmaps")),
			rule(update, coreGroup, l("configmaps"), "cluster-info"), tell),
		in("kube-system", "skiff:node-dns", rule(read, coreGroup, l("configmaps"), "coredns")),
	}
}

func namespacedBindings() []*rbacv1.RoleBinding {
	in := func(ns, role string, subjects ...rbacv1.Subject) *rbacv1.RoleBinding {
		m := defaults(role)
		m.Namespace = ns
		return &rbacv1.RoleBinding{ObjectMeta: m, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role}, Subjects: subjects}
	}
	manager, scheduler := userSubject("system:kube-controller-manager"), userSubject("system:kube-scheduler")
	reader := in("kube-system", "extension-apiserver-authentication-reader", manager, scheduler)
	reader.Name = "system::extension-apiserver-authentication-reader"
	return []*rbacv1.RoleBinding{
		reader,
		in("kube-system", "system::leader-locking-kube-controller-manager", manager, accountSubject("kube-controller-manager"), accountSubject("leader-election-controller")),
		in("kube-system", "system::leader-locking-kube-scheduler", scheduler, accountSubject("kube-scheduler")),
		in("kube-system", "system:controller:bootstrap-signer", accountSubject("bootstrap-signer")),
		in("kube-system", "system:controller:cloud-provider", accountSubject("cloud-provider")),
		in("kube-system", "system:controller:token-cleaner", accountSubject("token-cleaner")),
		in("kube-public", "system:controller:bootstrap-signer", accountSubject("bootstrap-signer")),
		in("kube-system", "skiff:node-dns", groupSubject("system:nodes")),
	}
}
