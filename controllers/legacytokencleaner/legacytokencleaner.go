// Package legacytokencleaner marks token Secrets that were made automatically
// and have not been used for long, and deletes them when nobody objects.
package legacytokencleaner

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/klog/v2"

	"skiff/controllers/loop"
)

// Labels and objects of the tracking.
const (
	LastUsed     = "kubernetes.io/legacy-token-last-used"
	InvalidSince = "kubernetes.io/legacy-token-invalid-since"
	tracking     = "kube-apiserver-legacy-service-account-token-tracking"
	dateFormat   = "2006-01-02"
	period       = 24 * time.Hour
	idle         = 365 * 24 * time.Hour
)

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller marks and deletes Secrets.
type Controller struct {
	*loop.Loop
	parts    loop.Parts
	secrets  corelisters.SecretLister
	accounts corelisters.ServiceAccountLister
	pods     corelisters.PodLister
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("legacy-serviceaccount-token-cleaner")
	if err != nil {
		return nil, err
	}
	core := parts.Informers.Core().V1()
	l := &Controller{parts: parts, secrets: core.Secrets().Lister(), accounts: core.ServiceAccounts().Lister(), pods: core.Pods().Lister()}
	l.Loop = loop.New("legacy-serviceaccount-token-cleaner", parts, func(context.Context, string) error { return nil })
	l.Reads(core.Secrets().Informer(), core.ServiceAccounts().Informer(), core.Pods().Informer())
	l.Every(period, l.clean)
	return l, nil
}

// Step is what to do with a Secret.
type Step int

// Steps of Judge.
const (
	Keep Step = iota
	Mark
	Delete
)

// Judge decides by the dates; since is when use began to be recorded.
func Judge(s *v1.Secret, since, now time.Time) Step {
	last := since
	if s.CreationTimestamp.After(last) {
		last = s.CreationTimestamp.Time
	}
	if raw, ok := s.Labels[LastUsed]; ok {
		at, err := time.Parse(dateFormat, raw)
		if err != nil {
			return Keep
		}
		if at.After(last) {
			last = at
		}
	}
	if now.Sub(last) < idle {
		return Keep
	}
	raw, marked := s.Labels[InvalidSince]
	if !marked {
		return Mark
	}
	at, err := time.Parse(dateFormat, raw)
	if err != nil {
		return Mark
	}
	if now.Sub(at) < idle {
		return Keep
	}
	return Delete
}

func (c *Controller) clean(ctx context.Context) {
	logger := klog.FromContext(ctx)
	m, err := c.parts.Client.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, tracking, metav1.GetOptions{})
	if err != nil {
		return // use is not recorded, so nothing is known to be unused
	}
	since, err := time.Parse(dateFormat, m.Data["since"])
	if err != nil {
		return
	}
	secrets, err := c.secrets.List(labels.Everything())
	if err != nil {
		return
	}
	for _, s := range secrets {
		if s.Type != v1.SecretTypeServiceAccountToken || !c.automatic(s) || c.mounted(s) {
			continue
		}
		now := c.parts.Clock.Now()
		var err error
		switch Judge(s, since, now) {
		case Mark:
			err = c.mark(ctx, s, now)
		case Delete:
			err = c.parts.Client.CoreV1().Secrets(s.Namespace).Delete(ctx, s.Name, metav1.DeleteOptions{
				Preconditions: &metav1.Preconditions{UID: &s.UID, ResourceVersion: &s.ResourceVersion},
			})
		}
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			logger.Error(err, "Could not clean a token", "secret", klog.KObj(s))
		}
	}
}

func (c *Controller) mark(ctx context.Context, s *v1.Secret, now time.Time) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": s.UID, "resourceVersion": s.ResourceVersion, "labels": map[string]string{InvalidSince: now.Format(dateFormat)},
	}})
	if err != nil {
		return err
	}
	_, err = c.parts.Client.CoreV1().Secrets(s.Namespace).Patch(ctx, s.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	return err
}

// automatic says whether the account lists the Secret: people's own are not.
func (c *Controller) automatic(s *v1.Secret) bool {
	account, err := c.accounts.ServiceAccounts(s.Namespace).Get(s.Annotations[v1.ServiceAccountNameKey])
	return err == nil && slices.ContainsFunc(account.Secrets, func(r v1.ObjectReference) bool { return r.Name == s.Name })
}

func (c *Controller) mounted(s *v1.Secret) bool {
	pods, err := c.pods.Pods(s.Namespace).List(labels.Everything())
	if err != nil {
		return true
	}
	return slices.ContainsFunc(pods, func(p *v1.Pod) bool {
		return slices.ContainsFunc(p.Spec.Volumes, func(v v1.Volume) bool { return v.Secret != nil && v.Secret.SecretName == s.Name })
	})
}
