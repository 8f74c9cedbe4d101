// Package serviceaccount gives pods their service account: its name, token
// volume and image pull secrets.
package serviceaccount

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/utils/ptr"

	"skiff/apiserver/admission"
	"skiff/apiserver/admission/lookup"
	"skiff/apiserver/admission/podrefs"
)

// Name of the plugin.
const Name = "ServiceAccount"

const (
	defaultAccount    = "default"
	volumePrefix      = "kube-api-access-"
	mountPath         = "/var/run/secrets/kubernetes.io/serviceaccount"
	tokenSeconds      = 3607
	enforceAnnotation = "kubernetes.io/enforce-mountable-secrets"
)

// Plugin serves pods.
type Plugin struct {
	client   kubernetes.Interface
	accounts corelisters.ServiceAccountLister
}

// New makes the plugin.
func New(client kubernetes.Interface, accounts corelisters.ServiceAccountLister) *Plugin {
	return &Plugin{client: client, accounts: accounts}
}

// Name is upstream's.
func (*Plugin) Name() string { return Name }

// Handles creations of pods, and updates for the containers that are added to
// pods that run.
func (*Plugin) Handles(op admission.Operation) bool {
	return op == admission.Create || op == admission.Update
}

// Admit completes a pod.
func (p *Plugin) Admit(ctx context.Context, a *admission.Attributes) error {
	pod, ok := a.Object.(*v1.Pod)
	if !ok || !a.Is("", "pods") || a.Operation != admission.Create {
		return nil
	}
	if _, mirror := pod.Annotations[v1.MirrorPodAnnotationKey]; mirror {
		return p.Validate(ctx, a)
	}
	if pod.Spec.ServiceAccountName == "" {
		pod.Spec.ServiceAccountName = defaultAccount
	}
	sa, err := p.account(ctx, a, pod)
	if err != nil {
		return err
	}
	if automount(sa, pod) {
		mount(pod)
	}
	if len(pod.Spec.ImagePullSecrets) == 0 {
		pod.Spec.ImagePullSecrets = slices.Clone(sa.ImagePullSecrets)
	}
	return p.Validate(ctx, a)
}

// Validate checks the pod as later plugins left it.
func (p *Plugin) Validate(ctx context.Context, a *admission.Attributes) error {
	pod, ok := a.Object.(*v1.Pod)
	added := a.Operation == admission.Update && a.Resource.Group == "" && a.Resource.Resource == "pods" && a.Subresource == "ephemeralcontainers"
	if !ok || !added && (!a.Is("", "pods") || a.Operation != admission.Create) {
		return nil
	}
	if _, mirror := pod.Annotations[v1.MirrorPodAnnotationKey]; mirror && !added {
		if err := mirrorPod(pod); err != nil {
			return admission.Forbidden(a, err)
		}
		return nil
	}
	if pod.Spec.ServiceAccountName == "" {
		return admission.Forbidden(a, fmt.Errorf("no service account specified for pod %s/%s", a.Namespace, pod.Name))
	}
	sa, err := p.account(ctx, a, pod)
	if err != nil {
		return err
	}
	if added {
		// What the pod had before is settled.
		pod = &v1.Pod{Spec: v1.PodSpec{EphemeralContainers: pod.Spec.EphemeralContainers}}
	}
	if on, _ := strconv.ParseBool(sa.Annotations[enforceAnnotation]); on {
		if err := mountable(sa, pod); err != nil {
			return admission.Forbidden(a, err)
		}
	}
	return nil
}

func (p *Plugin) account(ctx context.Context, a *admission.Attributes, pod *v1.Pod) (*v1.ServiceAccount, error) {
	name := pod.Spec.ServiceAccountName
	sa, err := lookup.Get(ctx, name, p.accounts.ServiceAccounts(a.Namespace).Get, p.client.CoreV1().ServiceAccounts(a.Namespace).Get)
	if apierrors.IsNotFound(err) {
		// The text that a lister's error has.
		err = fmt.Errorf("serviceaccount %q not found", name)
	}
	if err != nil {
		return nil, admission.Forbidden(a, fmt.Errorf("error looking up service account %s/%s: %w", a.Namespace, name, plain(err)))
	}
	return sa, nil
}

// plain drops the status, so that the outer one keeps its own reason.
func plain(err error) error { return errors.New(err.Error()) }

func mirrorPod(pod *v1.Pod) error {
	if pod.Spec.ServiceAccountName != "" {
		return errors.New("a mirror pod may not reference service accounts")
	}
	if podrefs.Any(podrefs.Secrets(&pod.Spec)) {
		return errors.New("a mirror pod may not reference secrets")
	}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.ServiceAccountToken != nil {
				return errors.New("a mirror pod may not use ServiceAccountToken volume projections")
			}
		}
	}
	return nil
}

func automount(sa *v1.ServiceAccount, pod *v1.Pod) bool {
	if pod.Spec.AutomountServiceAccountToken != nil {
		return *pod.Spec.AutomountServiceAccountToken
	}
	return ptr.Deref(sa.AutomountServiceAccountToken, true)
}

// mount adds the token to each container that has nothing at its path.
func mount(pod *v1.Pod) {
	name, exists := "", false
	for i := range pod.Spec.Volumes {
		if strings.HasPrefix(pod.Spec.Volumes[i].Name, volumePrefix) && pod.Spec.Volumes[i].Projected != nil {
			name, exists = pod.Spec.Volumes[i].Name, true
		}
	}
	if !exists {
		taken := func(n string) bool {
			return slices.ContainsFunc(pod.Spec.Volumes, func(v v1.Volume) bool { return v.Name == n })
		}
		for name = volumePrefix + rand.String(5); taken(name); name = volumePrefix + rand.String(5) {
		}
	}
	used := false
	for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			c := &list[i]
			if slices.ContainsFunc(c.VolumeMounts, func(m v1.VolumeMount) bool { return m.MountPath == mountPath }) {
				continue
			}
			c.VolumeMounts = append(c.VolumeMounts, v1.VolumeMount{Name: name, ReadOnly: true, MountPath: mountPath})
			used = true
		}
	}
	if used && !exists {
		pod.Spec.Volumes = append(pod.Spec.Volumes, v1.Volume{Name: name, VolumeSource: v1.VolumeSource{Projected: tokenSource()}})
	}
}

// tokenSource is the token, the cluster's root certificate and the namespace.
func tokenSource() *v1.ProjectedVolumeSource {
	return &v1.ProjectedVolumeSource{
		DefaultMode: ptr.To(v1.ProjectedVolumeSourceDefaultMode),
		Sources: []v1.VolumeProjection{
			{ServiceAccountToken: &v1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr.To[int64](tokenSeconds)}},
			{ConfigMap: &v1.ConfigMapProjection{LocalObjectReference: v1.LocalObjectReference{Name: "kube-root-ca.crt"},
				Items: []v1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}}}},
			{DownwardAPI: &v1.DownwardAPIProjection{Items: []v1.DownwardAPIVolumeFile{
				{Path: "namespace", FieldRef: &v1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"}}}}},
		},
	}
}

// mountable refuses secrets that the account does not list.
func mountable(sa *v1.ServiceAccount, pod *v1.Pod) error {
	listed := func(n string) bool {
		return slices.ContainsFunc(sa.Secrets, func(s v1.ObjectReference) bool { return s.Name == n })
	}
	for i := range pod.Spec.Volumes {
		if s := pod.Spec.Volumes[i].Secret; s != nil && !listed(s.SecretName) {
			return fmt.Errorf("volume with secret.secretName=%q is not allowed because service account %s does not reference that secret", s.SecretName, sa.Name)
		}
	}
	for c := range podrefs.Containers(&pod.Spec) {
		for _, e := range c.Env {
			if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil && !listed(e.ValueFrom.SecretKeyRef.Name) {
				return fmt.Errorf("%s %s with envVar %s referencing secret.secretName=%q is not allowed because service account %s does not reference that secret", c.Kind, c.Name, e.Name, e.ValueFrom.SecretKeyRef.Name, sa.Name)
			}
		}
		for _, e := range c.EnvFrom {
			if e.SecretRef != nil && !listed(e.SecretRef.Name) {
				return fmt.Errorf("%s %s with envFrom referencing secret.secretName=%q is not allowed because service account %s does not reference that secret", c.Kind, c.Name, e.SecretRef.Name, sa.Name)
			}
		}
	}
	for _, r := range pod.Spec.ImagePullSecrets {
		if !slices.Contains(sa.ImagePullSecrets, r) {
			return fmt.Errorf("imagePullSecret with name %q is not allowed because service account %s does not reference that imagePullSecret", r.Name, sa.Name)
		}
	}
	return nil
}
