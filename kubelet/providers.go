package kubelet

import (
	"context"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skiff/kubelet/images"
)

// providers are the programs that know credentials of registries.
func (k *Kubelet) providers() (*images.Providers, error) {
	return images.NewProviders(images.ProvidersConfig{
		File: k.cfg.CredentialProviders, BinDir: k.cfg.CredentialPlugins,
		Token: func(ctx context.Context, pod *v1.Pod, audience string) (string, error) {
			status, err := k.tokens.Token(ctx, pod, audience, nil)
			if err != nil {
				return "", err
			}
			return status.Token, nil
		},
		ServiceAccount: func(ctx context.Context, namespace, name string) (*v1.ServiceAccount, error) {
			return k.cfg.Client.CoreV1().ServiceAccounts(namespace).Get(ctx, name, metav1.GetOptions{})
		},
	})
}
