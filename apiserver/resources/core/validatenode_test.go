package core

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func testNode(change func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	if change != nil {
		change(n)
	}
	return n
}

func TestValidateNode(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*corev1.Node)
		want   []string
	}{
		{"bare", nil, nil},
		{"taints", func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: "k", Value: "-b!", Effect: "No"}, {Key: "k", Effect: "NoSchedule"}, {Key: "k", Effect: "NoSchedule"}}
		}, []string{
			`metadata.taints[0].value: Invalid value: "-b!": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')`,
			`metadata.taints[0].effect: Unsupported value: "No": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"`,
			`metadata.taints[2]: Duplicate value: {"key":"k","effect":"NoSchedule"}: taints must be unique by key and effect pair`,
		}},
		{"signatures of no controller", func(n *corev1.Node) {
			n.Annotations = map[string]string{corev1.PreferAvoidPodsAnnotationKey: `{"preferAvoidPods":[{},{"podSignature":{"podController":{"controller":false}}}]}`}
		}, []string{
			"metadata.annotations.scheduler.alpha.kubernetes.io/preferAvoidPods[0].PodSignature: Required value",
			"metadata.annotations.scheduler.alpha.kubernetes.io/preferAvoidPods[1].PodSignature.PodController.Controller: Invalid value: false: must point to a controller",
		}},
		{"signatures that are no JSON", func(n *corev1.Node) {
			n.Annotations = map[string]string{corev1.PreferAvoidPodsAnnotationKey: `{`}
		}, []string{`metadata.annotations.AvoidPods: Invalid value: "scheduler.alpha.kubernetes.io/preferAvoidPods": unexpected end of JSON input`}},
		{"taints in an annotation", func(n *corev1.Node) {
			n.Annotations = map[string]string{taintsAnnotation: `[{"key":"k"}]`}
		}, []string{"metadata.annotations.scheduler.alpha.kubernetes.io/taints[0].effect: Required value"}},
		{"half a device", func(n *corev1.Node) {
			n.Status.Capacity = corev1.ResourceList{"example.com/d": resource.MustParse("500m")}
		}, []string{`status.capacity.example.com/d: Invalid value: "500m": must be an integer`}},
		{"less than nothing", func(n *corev1.Node) {
			n.Status.Allocatable = corev1.ResourceList{"cpu": resource.MustParse("-1")}
		}, []string{`status.allocatable.cpu: Invalid value: "-1": must be greater than or equal to 0`}},
		{"no swap", func(n *corev1.Node) {
			n.Status.NodeInfo.Swap = &corev1.NodeSwapStatus{Capacity: ptr.To[int64](0)}
		}, []string{"metadata.nodeSwapStatus.capacity: Invalid value: 0: must be greater than zero"}},
		{"features", func(n *corev1.Node) { n.Status.DeclaredFeatures = []string{"B", "B", "A/b", "c"} }, []string{
			`status.declaredFeatures[1]: Duplicate value: "B"`,
			`status.declaredFeatures[2]: Invalid value: "A/b": list must be sorted alphabetically`,
			`status.declaredFeatures[3]: Invalid value: "c": invalid feature name "c": must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes`,
		}},
		{"two ranges of a family", func(n *corev1.Node) { n.Spec.PodCIDRs = []string{"10.0.0.0/24", "10.0.1.0/24"} },
			[]string{`spec.podCIDRs: Invalid value: ["10.0.0.0/24","10.0.1.0/24"]: may specify no more than one CIDR for each IP family`}},
		{"a range with bits of hosts", func(n *corev1.Node) { n.Spec.PodCIDRs = []string{"10.0.0.1/24"} },
			[]string{`spec.podCIDRs[0]: Invalid value: "10.0.0.1/24": must not have bits set beyond the prefix length`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, texts(validateNode(t.Context(), testNode(tc.change)))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestNodeIsAssignedOnce(t *testing.T) {
	old := testNode(func(n *corev1.Node) { n.Spec.PodCIDRs, n.Spec.ProviderID = []string{"10.0.0.0/24"}, "a://b" })
	for _, tc := range []struct {
		name   string
		change func(*corev1.Node)
		want   []string
	}{
		{"as it was", func(*corev1.Node) {}, nil},
		{"another provider's", func(n *corev1.Node) { n.Spec.ProviderID = "a://c" }, []string{"spec.providerID: Invalid value: null: field cannot be modified once set"}},
		{"no provider's", func(n *corev1.Node) { n.Spec.ProviderID = "" }, []string{"spec.providerID: Invalid value: null: field cannot be cleared once set"}},
		{"another range", func(n *corev1.Node) { n.Spec.PodCIDRs = []string{"10.0.1.0/24"} }, []string{`spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid`}},
		{"another name of old", func(n *corev1.Node) { n.Spec.DoNotUseExternalID = "x" }, []string{"spec.externalID: Forbidden: may not be updated"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := old.DeepCopy()
			tc.change(n)
			if diff := cmp.Diff(tc.want, texts(validateNodeUpdate(t.Context(), n, old))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A volume may be given once the secret that it is grown with, and does not lose
// its class of attributes.
func TestVolumeUpdates(t *testing.T) {
	csi := func(expand string) *corev1.PersistentVolume {
		pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v"}, Spec: corev1.PersistentVolumeSpec{
			Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			VolumeMode: ptr.To(corev1.PersistentVolumeFilesystem), VolumeAttributesClassName: ptr.To("c"),
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "d", VolumeHandle: "h"}},
		}}
		if expand != "" {
			pv.Spec.CSI.ControllerExpandSecretRef = &corev1.SecretReference{Name: expand, Namespace: "ns"}
		}
		return pv
	}
	if errs := validatePVUpdate(t.Context(), csi("s"), csi("")); len(errs) > 0 {
		t.Error("a first secret:", errs)
	}
	if errs := validatePVUpdate(t.Context(), csi("s"), csi("r")); len(errs) != 1 || errs[0].Field != "spec.persistentvolumesource" {
		t.Error("another secret:", errs)
	}
	bare := csi("")
	bare.Spec.VolumeAttributesClassName = nil
	want := []string{"spec.volumeAttributesClassName: Forbidden: update from non-nil value to nil is forbidden"}
	if diff := cmp.Diff(want, texts(validatePVUpdate(t.Context(), bare, csi("")))); diff != "" {
		t.Error(diff)
	}
}
