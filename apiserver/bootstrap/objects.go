package bootstrap

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	networkingv1 "k8s.io/api/networking/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"
	applynetworkingv1 "k8s.io/client-go/applyconfigurations/networking/v1"
	"k8s.io/utils/ptr"
)

func namespaces(ctx context.Context, c Config) error {
	var list []*corev1.Namespace
	for _, name := range []string{"default", "kube-system", "kube-public", "kube-node-lease"} {
		list = append(list, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	return makeAll(ctx, c.Client.CoreV1().Namespaces(), list, metav1.CreateOptions{})
}

func priorityClasses(ctx context.Context, c Config) error {
	return makeAll(ctx, c.Client.SchedulingV1().PriorityClasses(), []*schedulingv1.PriorityClass{
		{ObjectMeta: metav1.ObjectMeta{Name: "system-node-critical"}, Value: 2000001000,
			Description: "Used for system critical pods that must not be moved from their current node."},
		{ObjectMeta: metav1.ObjectMeta{Name: "system-cluster-critical"}, Value: 2000000000,
			Description: "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary."},
	}, metav1.CreateOptions{})
}

func serviceCIDR(ctx context.Context, c Config) error {
	cidrs := make([]string, len(c.ServiceCIDRs))
	for i, p := range c.ServiceCIDRs {
		cidrs[i] = p.String()
	}
	client := c.Client.NetworkingV1().ServiceCIDRs()
	o, err := client.Create(ctx, &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: cidrs}}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return err
	}
	ready := applymetav1.Condition().WithType(networkingv1.ServiceCIDRConditionReady).WithStatus(metav1.ConditionTrue).
		WithLastTransitionTime(metav1.Now()).WithMessage("Kubernetes default Service CIDR is ready")
	status := applynetworkingv1.ServiceCIDR(o.Name).WithStatus(applynetworkingv1.ServiceCIDRStatus().WithConditions(ready))
	_, err = client.ApplyStatus(ctx, status, metav1.ApplyOptions{FieldManager: "kubernetes-service-cidr-controller", Force: true})
	return err
}

// authenticationConfig tells aggregated servers whom this one believes.
func authenticationConfig(ctx context.Context, c Config) error {
	data := map[string]string{}
	if len(c.ClientCA) > 0 {
		data["client-ca-file"] = string(c.ClientCA)
	}
	if len(c.FrontProxyCA) > 0 {
		data["requestheader-client-ca-file"] = string(c.FrontProxyCA)
		for key, list := range map[string][]string{
			"allowed-names": c.FrontProxy.AllowedNames, "extra-headers-prefix": c.FrontProxy.ExtraHeaderPrefixes, "group-headers": c.FrontProxy.GroupHeaders,
			"uid-headers": c.FrontProxy.UIDHeaders, "username-headers": c.FrontProxy.UsernameHeaders,
		} {
			if key == "uid-headers" && len(list) == 0 {
				continue
			}
			text, err := json.Marshal(list)
			if err != nil {
				return err
			}
			data["requestheader-"+key] = string(text)
		}
	}
	client := c.Client.CoreV1().ConfigMaps("kube-system")
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "extension-apiserver-authentication", Namespace: "kube-system"}, Data: data}
	_, err := client.Create(ctx, cm, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = client.Update(ctx, cm, metav1.UpdateOptions{})
	}
	return err
}

// tokenTracking says since when uses of tokens kept in Secrets are noted: what
// was not used since then may be removed.
func tokenTracking(ctx context.Context, c Config) error {
	return makeOne(ctx, c.Client.CoreV1().ConfigMaps("kube-system"), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "kube-apiserver-legacy-service-account-token-tracking", Namespace: "kube-system"},
		Data:       map[string]string{"since": time.Now().UTC().Format(time.DateOnly)},
	}, metav1.CreateOptions{})
}

// flowControl makes the mandatory and the suggested levels and schemas.
func flowControl(ctx context.Context, c Config) error {
	limited := func(name string, shares, lendable, queues, hand, length int32) *flowcontrolv1.PriorityLevelConfiguration {
		l := &flowcontrolv1.LimitedPriorityLevelConfiguration{NominalConcurrencyShares: ptr.To(shares), LendablePercent: ptr.To(lendable),
			LimitResponse: flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject}}
		if queues > 0 {
			l.LimitResponse = flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeQueue,
				Queuing: &flowcontrolv1.QueuingConfiguration{Queues: queues, HandSize: hand, QueueLengthLimit: length}}
		}
		return &flowcontrolv1.PriorityLevelConfiguration{ObjectMeta: own(name), Spec: flowcontrolv1.PriorityLevelConfigurationSpec{Type: flowcontrolv1.PriorityLevelEnablementLimited, Limited: l}}
	}
	levels := []*flowcontrolv1.PriorityLevelConfiguration{
		{ObjectMeta: own("exempt"), Spec: flowcontrolv1.PriorityLevelConfigurationSpec{Type: flowcontrolv1.PriorityLevelEnablementExempt,
			Exempt: &flowcontrolv1.ExemptPriorityLevelConfiguration{NominalConcurrencyShares: ptr.To[int32](0), LendablePercent: ptr.To[int32](0)}}},
		limited("catch-all", 5, 0, 0, 0, 0),
		limited("system", 30, 33, 64, 6, 50),
		limited("node-high", 40, 25, 64, 6, 50),
		limited("leader-election", 10, 0, 16, 4, 50),
		limited("workload-high", 40, 50, 128, 6, 50),
		limited("workload-low", 100, 90, 128, 6, 50),
		limited("global-default", 20, 50, 128, 6, 50),
	}
	producer := metav1.CreateOptions{FieldManager: "api-priority-and-fairness-config-producer-v1"}
	if err := makeAll(ctx, c.Client.FlowcontrolV1().PriorityLevelConfigurations(), levels, producer); err != nil {
		return fmt.Errorf("priority levels: %w", err)
	}
	if err := makeAll(ctx, c.Client.FlowcontrolV1().FlowSchemas(), flowSchemas(), producer); err != nil {
		return fmt.Errorf("flow schemas: %w", err)
	}
	return nil
}

// own marks objects that the server may bring up to date.
func own(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Annotations: map[string]string{"apf.kubernetes.io/autoupdate-spec": "true"}}
}

func flowSchemas() []*flowcontrolv1.FlowSchema {
	group := func(names ...string) []flowcontrolv1.Subject {
		var out []flowcontrolv1.Subject
		for _, n := range names {
			out = append(out, flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindGroup, Group: &flowcontrolv1.GroupSubject{Name: n}})
		}
		return out
	}
	users := func(names ...string) []flowcontrolv1.Subject {
		var out []flowcontrolv1.Subject
		for _, n := range names {
			out = append(out, flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindUser, User: &flowcontrolv1.UserSubject{Name: n}})
		}
		return out
	}
	accounts := []flowcontrolv1.Subject{{Kind: flowcontrolv1.SubjectKindServiceAccount, ServiceAccount: &flowcontrolv1.ServiceAccountSubject{Namespace: "kube-system", Name: "*"}}}
	everything := []flowcontrolv1.ResourcePolicyRule{{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}, ClusterScope: true, Namespaces: []string{"*"}}}
	anyPath := []flowcontrolv1.NonResourcePolicyRule{{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}}}
	schema := func(name, level string, precedence int32, method flowcontrolv1.FlowDistinguisherMethodType, subjects []flowcontrolv1.Subject, resources []flowcontrolv1.ResourcePolicyRule, paths []flowcontrolv1.NonResourcePolicyRule) *flowcontrolv1.FlowSchema {
		s := &flowcontrolv1.FlowSchema{ObjectMeta: own(name), Spec: flowcontrolv1.FlowSchemaSpec{
			PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: level}, MatchingPrecedence: precedence,
			Rules: []flowcontrolv1.PolicyRulesWithSubjects{{Subjects: subjects, ResourceRules: resources, NonResourceRules: paths}},
		}}
		if method != "" {
			s.Spec.DistinguisherMethod = &flowcontrolv1.FlowDistinguisherMethod{Type: method}
		}
		return s
	}
	byUser, byNamespace := flowcontrolv1.FlowDistinguisherMethodByUserType, flowcontrolv1.FlowDistinguisherMethodByNamespaceType
	nodes := []flowcontrolv1.ResourcePolicyRule{
		{Verbs: []string{"*"}, APIGroups: []string{""}, Resources: []string{"nodes", "nodes/status"}, ClusterScope: true, Namespaces: []string{"*"}},
		{Verbs: []string{"*"}, APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Namespaces: []string{"*"}},
	}
	leases := []flowcontrolv1.ResourcePolicyRule{{Verbs: []string{"get", "create", "update"}, APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Namespaces: []string{"*"}}}
	return []*flowcontrolv1.FlowSchema{
		schema("exempt", "exempt", 1, "", group("system:masters"), everything, anyPath),
		schema("probes", "exempt", 2, "", group("system:unauthenticated", "system:authenticated"), nil,
			[]flowcontrolv1.NonResourcePolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/healthz", "/readyz", "/livez"}}}),
		schema("system-leader-election", "leader-election", 100, byUser, append(users("system:kube-controller-manager", "system:kube-scheduler"), accounts...), leases, nil),
		schema("system-node-high", "node-high", 400, byUser, group("system:nodes"), nodes, nil),
		schema("system-nodes", "system", 500, byUser, group("system:nodes"), everything, anyPath),
		schema("kube-controller-manager", "workload-high", 800, byNamespace, users("system:kube-controller-manager"), everything, anyPath),
		schema("kube-scheduler", "workload-high", 800, byNamespace, users("system:kube-scheduler"), everything, anyPath),
		schema("kube-system-service-accounts", "workload-high", 900, byNamespace, accounts, everything, anyPath),
		schema("service-accounts", "workload-low", 9000, byUser, group("system:serviceaccounts"), everything, anyPath),
		schema("global-default", "global-default", 9900, byUser, group("system:unauthenticated", "system:authenticated"), everything, anyPath),
		schema("catch-all", "catch-all", 10000, byUser, group("system:unauthenticated", "system:authenticated"), everything, anyPath),
	}
}
