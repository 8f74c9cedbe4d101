package setup

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"skiff/cluster/config"
)

func TestNameStore(t *testing.T) {
	external := func(endpoint string) *config.ExternalEtcd { return &config.ExternalEtcd{Endpoints: []string{endpoint}} }
	for _, c := range []struct {
		name      string
		kept, own *config.ExternalEtcd
		changed   bool
		want      string
	}{
		{"the same", external("postgres://u@host/db"), external("postgres://u@host/db"), false, "postgres://u@host/db"},
		{"the same but for the password, which is kept from all", external("postgres://u@host/db"), external("postgres://u:secret@host/db"), false, "postgres://u@host/db"},
		{"SQLite to Postgres", nil, external("postgres://u:secret@host/db"), true, "postgres://u@host/db"},
		{"Postgres to SQLite", external("postgres://u@host/db"), nil, true, ""},
		{"Postgres to etcd", external("postgres://u@host/db"), external("https://etcd:2379"), true, "https://etcd:2379"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := t.Context()
			doc, err := config.Marshal(config.ClusterKind, &config.Cluster{ClusterName: "kept", Etcd: config.Etcd{External: c.kept}})
			if err != nil {
				t.Fatal(err)
			}
			client := fake.NewClientset(
				&corev1.ConfigMap{ObjectMeta: meta("kube-system", clusterConfigMap), Data: map[string]string{config.ClusterKind: string(doc)}},
				&corev1.Secret{ObjectMeta: meta("kube-system", certsSecret)},
			)
			changed, err := NameStore(ctx, client, &config.Cluster{ClusterName: "own", Etcd: config.Etcd{External: c.own}})
			if err != nil || changed != c.changed {
				t.Fatalf("changed %v, %v; want %v", changed, err, c.changed)
			}
			cm, err := client.CoreV1().ConfigMaps("kube-system").Get(ctx, clusterConfigMap, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			got, err := config.ParseCluster([]byte(cm.Data[config.ClusterKind]))
			if err != nil || got.ClusterName != "kept" {
				t.Fatalf("the configuration is %+v, %v", got, err)
			}
			named := ""
			if got.Etcd.External != nil {
				named = got.Etcd.External.Endpoints[0]
			}
			if named != c.want {
				t.Errorf("it names %q, want %q", named, c.want)
			}
			_, err = client.CoreV1().Secrets("kube-system").Get(ctx, certsSecret, metav1.GetOptions{})
			if gone := apierrors.IsNotFound(err); gone != c.changed {
				t.Errorf("the authorities for masters are gone: %v, want %v (%v)", gone, c.changed, err)
			}
		})
	}
	if changed, err := NameStore(t.Context(), fake.NewClientset(), &config.Cluster{}); err != nil || changed {
		t.Errorf("without a configuration: %v, %v", changed, err)
	}
}
