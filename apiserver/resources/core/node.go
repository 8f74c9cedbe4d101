package core

import (
	"context"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/podspec"
	"skiff/apiserver/resources/table"
)

type nodeStrategy = resources.TypedStrategy[corev1.Node, *corev1.Node]

func nodes() resources.Resource {
	r := clusterScoped("Node", "nodes", "no")
	r.Path = "minions"
	r.Versions = v1(func() runtime.Object { return &corev1.NodeList{} }, nodeDefaults)
	r.Columns = table.Columns(table.Name(), table.Text("Status", "The status of the node"),
		table.Text("Roles", "The roles of the node"), table.Age(),
		table.Text("Version", "The version of the node's kubelet"),
		table.Wide(table.Text("Internal-IP", "The node's address within the cluster")),
		table.Wide(table.Text("External-IP", "The node's address from outside")),
		table.Wide(table.Text("OS-Image", "The node's operating system")),
		table.Wide(table.Text("Kernel-Version", "The node's kernel")),
		table.Wide(table.Text("Container-Runtime", "The node's container runtime")))
	r.Subresources = map[string]resources.Subresource{
		"proxy": connect("NodeProxyOptions", resources.ConnectProxy, resources.GetAndProxyTo...),
	}
	return resources.Declare(resources.Spec[corev1.Node, *corev1.Node]{
		Resource: r,
		Strategy: nodeStrategy{
			Metadata:                 resources.MetadataRules{NamesOnUpdate: true},
			AllowUnconditionalUpdate: true,
			Validate:                 validateNode, ValidateUpdate: validateNodeUpdate,
			PrepareForCreate: func(_ context.Context, n *corev1.Node) { dropNodeConfig(n, nil) },
			PrepareForUpdate: func(_ context.Context, n, old *corev1.Node) {
				n.Status = old.Status
				dropNodeConfig(n, old)
			},
			ResetFields: []string{"status"},
		},
		Views: map[string]nodeStrategy{"status": {
			AllowUnconditionalUpdate: true,
			PrepareForUpdate: func(_ context.Context, n, old *corev1.Node) {
				n.Spec = old.Spec
				if old.Status.Config == nil {
					n.Status.Config = nil
				}
			},
			ValidateUpdate: validateNodeStatusUpdate,
			ResetFields:    []string{"spec"},
		}},
		SelectableFields: map[string]func(*corev1.Node) string{
			"spec.unschedulable": func(n *corev1.Node) string {
				if n.Spec.Unschedulable {
					return "true"
				}
				return "false"
			},
		},
		Row: nodeRow,
	})
}

// dropNodeConfig leaves out a kubelet's configuration in a map: the feature is gone.
// A node that has one of old keeps what it is given.
func dropNodeConfig(n, old *corev1.Node) {
	if old == nil {
		n.Spec.ConfigSource, n.Status.Config = nil, nil
	} else if old.Spec.ConfigSource == nil {
		n.Spec.ConfigSource = nil
	}
}

// nodeDefaults makes what is allocatable the capacity, where it is not told,
// and keeps the single pod range equal to the first of the list.
func nodeDefaults(n *corev1.Node) {
	podspec.RoundResources(n.Status.Capacity)
	podspec.RoundResources(n.Status.Allocatable)
	if n.Status.Allocatable == nil && n.Status.Capacity != nil {
		n.Status.Allocatable = make(corev1.ResourceList, len(n.Status.Capacity))
		for name, q := range n.Status.Capacity {
			n.Status.Allocatable[name] = q.DeepCopy()
		}
	}
	switch {
	case n.Spec.PodCIDR == "" && len(n.Spec.PodCIDRs) > 0:
		n.Spec.PodCIDR = n.Spec.PodCIDRs[0]
	case n.Spec.PodCIDR != "" && len(n.Spec.PodCIDRs) == 0:
		n.Spec.PodCIDRs = []string{n.Spec.PodCIDR}
	case n.Spec.PodCIDR != "" && n.Spec.PodCIDRs[0] != n.Spec.PodCIDR:
		n.Spec.PodCIDRs = []string{n.Spec.PodCIDR}
	}
}

func nodeRow(n *corev1.Node) []any {
	var status []string
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			if c.Status == corev1.ConditionTrue {
				status = append(status, "Ready")
			} else {
				status = append(status, "NotReady")
			}
		}
	}
	if len(status) == 0 {
		status = append(status, "Unknown")
	}
	if n.Spec.Unschedulable {
		status = append(status, "SchedulingDisabled")
	}
	or := func(s, def string) string {
		if s == "" {
			return def
		}
		return s
	}
	info := n.Status.NodeInfo
	return []any{
		n.Name, strings.Join(status, ","), or(strings.Join(nodeRoles(n), ","), "<none>"),
		table.Since(n.CreationTimestamp), info.KubeletVersion,
		nodeAddress(n, corev1.NodeInternalIP), nodeAddress(n, corev1.NodeExternalIP),
		or(info.OSImage, "<unknown>"), or(info.KernelVersion, "<unknown>"), or(info.ContainerRuntimeVersion, "<unknown>"),
	}
}

func nodeAddress(n *corev1.Node, kind corev1.NodeAddressType) string {
	for _, a := range n.Status.Addresses {
		if a.Type == kind {
			return a.Address
		}
	}
	return "<none>"
}

func nodeRoles(n *corev1.Node) []string {
	seen := map[string]bool{}
	for k, v := range n.Labels {
		if role, ok := strings.CutPrefix(k, "node-role.kubernetes.io/"); ok && role != "" {
			seen[role] = true
		} else if k == "kubernetes.io/role" && v != "" {
			seen[v] = true
		}
	}
	roles := make([]string, 0, len(seen))
	for role := range seen {
		roles = append(roles, role)
	}
	sort.Strings(roles)
	return roles
}
