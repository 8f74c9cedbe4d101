package resources

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1beta1 "k8s.io/api/resource/v1beta1"
	resourcev1beta2 "k8s.io/api/resource/v1beta2"
	migrationv1beta1 "k8s.io/api/storagemigration/v1beta1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestDeprecation(t *testing.T) {
	for want, tc := range map[string]struct {
		version, kind string
		obj           runtime.Object
	}{
		"storagemigration.k8s.io/v1beta1 StorageVersionMigration is deprecated in v1.37+, unavailable in v1.40+; use storagemigration.k8s.io/v1 StorageVersionMigration": {
			"storagemigration.k8s.io/v1beta1", "StorageVersionMigration", &migrationv1beta1.StorageVersionMigration{}},
		"resource.k8s.io/v1beta1 ResourceClaim is deprecated in v1.35+, unavailable in v1.38+": {"resource.k8s.io/v1beta1", "ResourceClaim", &resourcev1beta1.ResourceClaim{}},
	} {
		gv, err := schema.ParseGroupVersion(tc.version)
		if err != nil {
			t.Fatal(err)
		}
		if got := deprecation(gv.WithKind(tc.kind), tc.obj); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
	for _, obj := range []runtime.Object{&corev1.Pod{}, &resourcev1beta2.DeviceTaintRule{}} {
		if got := deprecation(schema.GroupVersionKind{}, obj); got != "" {
			t.Errorf("%T, deprecated later or never: %q", obj, got)
		}
	}
}
