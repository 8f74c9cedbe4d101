package setup

import (
	"context"
	"fmt"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"skiff/cluster/pki"
)

// CAHash is the pin of the authority in a PKI folder, for joining nodes.
func CAHash(pkiDir string) (string, error) {
	certs, err := pki.LoadCerts(filepath.Join(pkiDir, "ca.crt"))
	if err != nil {
		return "", err
	}
	return pki.PublicKeyPin(certs[0]), nil
}

// WaitReady waits until n nodes are Ready: it lists them, then watches.
func WaitReady(ctx context.Context, client kubernetes.Interface, n int) error {
	last := ""
	for {
		list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err == nil {
			ready := map[string]bool{}
			for i := range list.Items {
				ready[list.Items[i].Name] = IsReady(&list.Items[i])
			}
			if count(ready) >= n {
				return nil
			}
			last = fmt.Sprintf("%d of %d nodes are Ready", count(ready), n)
			err = watchReady(ctx, client, list.ResourceVersion, ready, n)
			if err == nil {
				return nil
			}
		}
		if ctx.Err() != nil {
			if last == "" {
				last = fmt.Sprint(err)
			}
			return fmt.Errorf("the nodes did not become Ready in time: %s", last)
		}
	}
}

func watchReady(ctx context.Context, client kubernetes.Interface, from string, ready map[string]bool, n int) error {
	w, err := client.CoreV1().Nodes().Watch(ctx, metav1.ListOptions{ResourceVersion: from})
	if err != nil {
		return err
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, ok := <-w.ResultChan():
			if !ok {
				return fmt.Errorf("the watch ended")
			}
			if node, isNode := e.Object.(*corev1.Node); isNode {
				ready[node.Name] = IsReady(node)
			}
			if count(ready) >= n {
				return nil
			}
		}
	}
}

func count(ready map[string]bool) int {
	n := 0
	for _, ok := range ready {
		if ok {
			n++
		}
	}
	return n
}

// IsReady tells whether a node is Ready.
func IsReady(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
