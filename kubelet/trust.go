package kubelet

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"sort"
	"strconv"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// trustBundle returns the certificates that a projection asks for, each once
// and in a stable order.
func (k *Kubelet) trustBundle(ctx context.Context, src *v1.ClusterTrustBundleProjection) ([]byte, error) {
	optional := src.Optional != nil && *src.Optional
	bundles := k.cfg.Client.CertificatesV1().ClusterTrustBundles()
	var texts []string
	switch {
	case src.Name != nil:
		b, err := bundles.Get(ctx, *src.Name, metav1.GetOptions{})
		if err != nil {
			if apierrors.IsNotFound(err) && optional {
				return nil, nil
			}
			if apierrors.IsNotFound(err) { // as a lister says it
				err = apierrors.NewNotFound(certificatesv1.Resource("clustertrustbundle"), *src.Name)
			}
			return nil, fmt.Errorf("while getting ClusterTrustBundle: %w", err)
		}
		texts = append(texts, b.Spec.TrustBundle)
	case src.SignerName != nil:
		selector, err := metav1.LabelSelectorAsSelector(src.LabelSelector)
		if err != nil {
			return nil, err
		}
		// No selector selects nothing, which a list cannot ask for.
		if src.LabelSelector != nil {
			list, err := bundles.List(ctx, metav1.ListOptions{LabelSelector: selector.String(), FieldSelector: "spec.signerName=" + *src.SignerName})
			if err != nil {
				return nil, err
			}
			for i := range list.Items {
				texts = append(texts, list.Items[i].Spec.TrustBundle)
			}
		}
		if len(texts) == 0 && !optional {
			return nil, errors.New("combination of signerName and labelSelector matched zero ClusterTrustBundles")
		}
	}
	seen := map[string]bool{}
	var blocks []string
	for _, text := range texts {
		rest := []byte(text)
		for {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			if block.Type == "CERTIFICATE" && !seen[string(block.Bytes)] {
				seen[string(block.Bytes)] = true
				blocks = append(blocks, string(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})))
			}
		}
	}
	sort.Strings(blocks)
	var out bytes.Buffer
	for _, b := range blocks {
		out.WriteString(b)
	}
	return out.Bytes(), nil
}

func leaseDuration(seconds int32) time.Duration { return time.Duration(seconds) * time.Second }

// port is what the node tells others to reach its server at.
func (k *Kubelet) port() int32 {
	if k.cfg.Listener != nil {
		if _, text, err := net.SplitHostPort(k.cfg.Listener.Addr().String()); err == nil {
			if n, err := strconv.ParseInt(text, 10, 32); err == nil {
				return int32(n)
			}
		}
	}
	return k.cfg.Kubelet.Port
}
