// Package rootca publishes the cluster's CA certificate to every namespace, so
// that pods can verify the API server.
package rootca

import (
	"context"
	"errors"
	"maps"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"

	"skiff/controllers/loop"
)

// Name is the ConfigMap that every namespace has.
const Name = "kube-root-ca.crt"

const (
	descriptionKey = "kubernetes.io/description"
	description    = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. " +
		"No other usage is guaranteed across distributions of Kubernetes clusters."
)

// Config is what the controller needs.
type Config struct {
	loop.Parts
	// CA is the certificate bundle in PEM. Required.
	CA []byte
}

// Controller keeps the ConfigMaps.
type Controller struct {
	*loop.Loop
	parts      loop.Parts
	ca         string
	namespaces corelisters.NamespaceLister
	maps       corelisters.ConfigMapLister
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("root-ca-publisher")
	if len(c.CA) == 0 {
		err = errors.Join(err, errors.New("root-ca-publisher: CA is empty: give the bundle of the file named by RootCAFile"))
	}
	if err != nil {
		return nil, err
	}
	core := parts.Informers.Core().V1()
	r := &Controller{parts: parts, ca: string(c.CA), namespaces: core.Namespaces().Lister(), maps: core.ConfigMaps().Lister()}
	r.Loop = loop.New("root-ca-publisher", parts, r.sync)
	r.On(core.Namespaces().Informer(), loop.Changed(func(n *v1.Namespace) { r.Add(n.Name) }))
	again := func(m *v1.ConfigMap) {
		if m.Name == Name {
			r.Add(m.Namespace)
		}
	}
	r.On(core.ConfigMaps().Informer(), loop.Handlers(nil, func(_, m *v1.ConfigMap) { again(m) }, again))
	return r, nil
}

func (c *Controller) sync(ctx context.Context, namespace string) error {
	ns, err := c.namespaces.Get(namespace)
	if apierrors.IsNotFound(err) || err == nil && ns.Status.Phase != v1.NamespaceActive {
		return nil
	}
	if err != nil {
		return err
	}
	client := c.parts.Client.CoreV1().ConfigMaps(namespace)
	have, err := c.maps.ConfigMaps(namespace).Get(Name)
	if apierrors.IsNotFound(err) {
		_, err = client.Create(ctx, &v1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: Name, Namespace: namespace, Annotations: map[string]string{descriptionKey: description}},
			Data:       map[string]string{"ca.crt": c.ca},
		}, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, v1.NamespaceTerminatingCause) {
			return nil
		}
		return err
	}
	if err != nil {
		return err
	}
	data := map[string]string{"ca.crt": c.ca}
	if maps.Equal(have.Data, data) && have.Annotations[descriptionKey] != "" {
		return nil
	}
	next := have.DeepCopy()
	next.Data = data
	if next.Annotations == nil {
		next.Annotations = map[string]string{}
	}
	next.Annotations[descriptionKey] = description
	_, err = client.Update(ctx, next, metav1.UpdateOptions{})
	return err
}
