package core

import (
	"context"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/podspec"
	"skiff/apiserver/resources/table"
)

type podStrategy = resources.TypedStrategy[corev1.Pod, *corev1.Pod]

func pods() resources.Resource {
	r := namespaced("Pod", "pods", "po")
	r.Categories = []string{"all"}
	r.Versions = v1(func() runtime.Object { return &corev1.PodList{} }, podDefaults)
	r.Columns = table.Columns(table.Name(), table.Text("Ready", "How many of the pod's containers are ready."),
		table.Text("Status", "What the pod is doing, or why it is not."),
		table.Text("Restarts", "How often containers of the pod were restarted, and when last."), table.Age(),
		table.Wide(table.Text("IP", "The pod's address.")), table.Wide(table.Text("Node", "The node that the pod is on.")),
		table.Wide(table.Text("Nominated Node", "The node that room is being made on for the pod.")),
		table.Wide(table.Text("Readiness Gates", "How many of the pod's readiness gates are true.")))
	r.Subresources = map[string]resources.Subresource{
		"attach":      connect("PodAttachOptions", resources.ConnectAttach, "create", "get"),
		"binding":     connect("Binding", resources.ConnectBinding, "create"),
		"eviction":    {Group: "policy", Version: "v1", Kind: "Eviction", Verbs: resources.CreateOnly, Connect: resources.ConnectEviction},
		"exec":        connect("PodExecOptions", resources.ConnectExec, "create", "get"),
		"log":         connect("Pod", resources.ConnectLog, "get"),
		"portforward": connect("PodPortForwardOptions", resources.ConnectPortForward, "create", "get"),
		"proxy":       connect("PodProxyOptions", resources.ConnectProxy, resources.GetAndProxyTo...),
	}
	return resources.Declare(resources.Spec[corev1.Pod, *corev1.Pod]{
		Resource: r,
		Strategy: podStrategy{
			Generation:               true,
			Metadata:                 resources.MetadataRules{NamesOnUpdate: true},
			AllowUnconditionalUpdate: true,
			PrepareForCreate:         preparePodCreate,
			Validate:                 validatePod, ValidateUpdate: validatePodUpdate,
			Warnings: podWarnings,
			PrepareForUpdate: func(_ context.Context, pod, old *corev1.Pod) {
				pod.Status = old.Status
				podspec.SyncServiceAccount(&pod.Spec)
			},
			CheckGracefulDelete: podGrace,
			ResetFields:         []string{"status"},
		},
		Views: map[string]podStrategy{
			"status": {
				Generation:               true,
				Metadata:                 resources.MetadataRules{NamesOnUpdate: true},
				AllowUnconditionalUpdate: true,
				PrepareForUpdate:         preparePodStatus,
				ValidateUpdate:           validatePodStatusUpdate,
				ResetFields:              []string{"spec", "metadata.deletionTimestamp", "metadata.ownerReferences"},
			},
			"ephemeralcontainers": {
				ValidateUpdate:           validateEphemeralUpdate,
				Generation:               true,
				Metadata:                 resources.MetadataRules{NamesOnUpdate: true},
				AllowUnconditionalUpdate: true,
				PrepareForUpdate: func(_ context.Context, pod, old *corev1.Pod) {
					kept := old.DeepCopy()
					kept.Spec.EphemeralContainers = pod.Spec.EphemeralContainers
					kept.ResourceVersion = pod.ResourceVersion
					kept.ManagedFields = pod.ManagedFields
					*pod = *kept
				},
			},
			"resize": {
				Generation:               true,
				Metadata:                 resources.MetadataRules{NamesOnUpdate: true},
				AllowUnconditionalUpdate: true,
				PrepareForUpdate:         preparePodResize,
				ValidateUpdate:           validatePodResize,
			},
		},
		SelectableFields: map[string]func(*corev1.Pod) string{
			"spec.nodeName":            func(p *corev1.Pod) string { return p.Spec.NodeName },
			"spec.restartPolicy":       func(p *corev1.Pod) string { return string(p.Spec.RestartPolicy) },
			"spec.schedulerName":       func(p *corev1.Pod) string { return p.Spec.SchedulerName },
			"spec.serviceAccountName":  func(p *corev1.Pod) string { return p.Spec.ServiceAccountName },
			"spec.hostNetwork":         func(p *corev1.Pod) string { return strconv.FormatBool(p.Spec.HostNetwork) },
			"status.phase":             func(p *corev1.Pod) string { return string(p.Status.Phase) },
			"status.podIP":             podIP,
			"status.nominatedNodeName": func(p *corev1.Pod) string { return p.Status.NominatedNodeName },
		},
		Row: podRow,
	})
}

func podDefaults(pod *corev1.Pod) {
	podspec.SetPodDefaults(pod)
	// Either of the two address fields may be all that a writer knows.
	st := &pod.Status
	switch {
	case st.PodIP == "" && len(st.PodIPs) > 0:
		st.PodIP = st.PodIPs[0].IP
	case st.PodIP != "" && (len(st.PodIPs) == 0 || st.PodIPs[0].IP != st.PodIP):
		st.PodIPs = []corev1.PodIP{{IP: st.PodIP}}
	}
}

func podIP(p *corev1.Pod) string {
	if len(p.Status.PodIPs) > 0 {
		return p.Status.PodIPs[0].IP
	}
	return p.Status.PodIP
}

func preparePodCreate(ctx context.Context, pod *corev1.Pod) {
	podspec.SyncAppArmor(ctx, pod)
	podspec.SyncServiceAccount(&pod.Spec)
	pod.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: podspec.QOSClass(pod)}
	if len(pod.Spec.SchedulingGates) > 0 {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonSchedulingGated,
			Message: "Scheduling is blocked due to non-empty scheduling gates", LastTransitionTime: pod.CreationTimestamp,
		})
	}
	mergeAffinityKeys(pod)
	mergeSpreadKeys(pod)
}

func preparePodStatus(_ context.Context, pod, old *corev1.Pod) {
	dropPodStatus(&pod.Status, &old.Status)
	pod.Spec = old.Spec
	pod.DeletionTimestamp = nil
	pod.OwnerReferences = old.OwnerReferences
	if pod.Status.QOSClass == "" {
		pod.Status.QOSClass = old.Status.QOSClass
	}
}

// preparePodResize lets through the resources and resize policies of containers
// and of the pod as a whole; all else stays.
func preparePodResize(_ context.Context, pod, old *corev1.Pod) {
	kept := old.DeepCopy()
	merge := func(into, from []corev1.Container) {
		if len(into) != len(from) {
			return
		}
		for i := range into {
			if into[i].Name == from[i].Name {
				into[i].Resources = from[i].Resources
				into[i].ResizePolicy = from[i].ResizePolicy
			}
		}
	}
	// A changed list of containers is kept for validation to refuse.
	if len(pod.Spec.Containers) != len(old.Spec.Containers) || len(pod.Spec.InitContainers) != len(old.Spec.InitContainers) {
		kept.Spec.Containers, kept.Spec.InitContainers = pod.Spec.Containers, pod.Spec.InitContainers
	}
	merge(kept.Spec.Containers, pod.Spec.Containers)
	merge(kept.Spec.InitContainers, pod.Spec.InitContainers)
	kept.Spec.Resources = pod.Spec.Resources
	kept.ResourceVersion = pod.ResourceVersion
	kept.ManagedFields = pod.ManagedFields
	*pod = *kept
}

// mergeAffinityKeys turns the matchLabelKeys of pod affinity terms into
// requirements of their selectors, with the values of the pod's own labels.
func mergeAffinityKeys(pod *corev1.Pod) {
	a := pod.Spec.Affinity
	if a == nil {
		return
	}
	term := func(t *corev1.PodAffinityTerm) {
		if t.LabelSelector == nil {
			return
		}
		t.LabelSelector = withKeys(pod, t.LabelSelector, t.MatchLabelKeys, metav1.LabelSelectorOpIn)
		t.LabelSelector = withKeys(pod, t.LabelSelector, t.MismatchLabelKeys, metav1.LabelSelectorOpNotIn)
	}
	if p := a.PodAffinity; p != nil {
		for i := range p.RequiredDuringSchedulingIgnoredDuringExecution {
			term(&p.RequiredDuringSchedulingIgnoredDuringExecution[i])
		}
		for i := range p.PreferredDuringSchedulingIgnoredDuringExecution {
			term(&p.PreferredDuringSchedulingIgnoredDuringExecution[i].PodAffinityTerm)
		}
	}
	if p := a.PodAntiAffinity; p != nil {
		for i := range p.RequiredDuringSchedulingIgnoredDuringExecution {
			term(&p.RequiredDuringSchedulingIgnoredDuringExecution[i])
		}
		for i := range p.PreferredDuringSchedulingIgnoredDuringExecution {
			term(&p.PreferredDuringSchedulingIgnoredDuringExecution[i].PodAffinityTerm)
		}
	}
}

// mergeSpreadKeys does the same for topology spread constraints.
func mergeSpreadKeys(pod *corev1.Pod) {
	for i := range pod.Spec.TopologySpreadConstraints {
		c := &pod.Spec.TopologySpreadConstraints[i]
		if c.LabelSelector != nil {
			c.LabelSelector = withKeys(pod, c.LabelSelector, c.MatchLabelKeys, metav1.LabelSelectorOpIn)
		}
	}
}

func withKeys(pod *corev1.Pod, sel *metav1.LabelSelector, keys []string, op metav1.LabelSelectorOperator) *metav1.LabelSelector {
	for _, key := range keys {
		if value, ok := pod.Labels[key]; ok {
			sel.MatchExpressions = append(sel.MatchExpressions,
				metav1.LabelSelectorRequirement{Key: key, Operator: op, Values: []string{value}})
		}
	}
	return sel
}

// podGrace takes the grace period from the pod where the request has none. A
// pod that is on no node, or has ended, goes at once.
func podGrace(_ context.Context, pod *corev1.Pod, opts *metav1.DeleteOptions) bool {
	if opts == nil {
		return false
	}
	period := int64(0)
	switch {
	case opts.GracePeriodSeconds != nil:
		period = *opts.GracePeriodSeconds
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		period = *pod.Spec.TerminationGracePeriodSeconds
	}
	if pod.Spec.NodeName == "" || pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
		period = 0
	}
	if period < 0 {
		period = 1
	}
	opts.GracePeriodSeconds = ptr.To(period)
	return true
}
