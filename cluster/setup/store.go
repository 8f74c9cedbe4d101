package setup

import (
	"context"
	"fmt"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	clientretry "k8s.io/client-go/util/retry"

	"skiff/cluster/config"
)

// NameStore brings the configuration that the cluster keeps for nodes that join to
// the store that this master uses, which changes when its state is moved. It tells
// whether that was another one. Authorities that were uploaded for masters go then:
// the old store's address is with them.
func NameStore(ctx context.Context, client kubernetes.Interface, cluster *config.Cluster) (changed bool, err error) {
	want := publicCluster(*cluster).Etcd
	maps := client.CoreV1().ConfigMaps(metav1.NamespaceSystem)
	err = clientretry.RetryOnConflict(clientretry.DefaultRetry, func() error {
		changed = false
		cm, err := maps.Get(ctx, clusterConfigMap, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil // nobody joins by it
		}
		if err != nil {
			return err
		}
		kept, err := config.ParseCluster([]byte(cm.Data[config.ClusterKind]))
		if err != nil {
			return err
		}
		if reflect.DeepEqual(kept.Etcd.External, want.External) {
			return nil
		}
		kept.Etcd = want
		doc, err := config.Marshal(config.ClusterKind, kept)
		if err != nil {
			return err
		}
		cm.Data[config.ClusterKind] = string(doc)
		changed = true
		_, err = maps.Update(ctx, cm, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return false, fmt.Errorf("name the store in ConfigMap %s: %w", clusterConfigMap, err)
	}
	if !changed {
		return false, nil
	}
	err = client.CoreV1().Secrets(metav1.NamespaceSystem).Delete(ctx, certsSecret, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return true, fmt.Errorf("remove Secret %s, which names the old store: %w", certsSecret, err)
	}
	return true, nil
}
