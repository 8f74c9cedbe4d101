package csi

import (
	"testing"
	"time"

	csispec "github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func TestRules(t *testing.T) {
	object := func(spec storagev1.CSIDriverSpec) *storagev1.CSIDriver { return &storagev1.CSIDriver{Spec: spec} }
	persistent, inline := &target{key: key{driver: "d"}}, &target{key: key{driver: "d"}, ephemeral: true}
	for _, tc := range []struct {
		name   string
		object *storagev1.CSIDriver
		target *target
		attach bool
		want   string
	}{
		{name: "no object", target: persistent, attach: true},
		{name: "no object, inline", target: inline, attach: true, want: `volume mode "Ephemeral" not supported by driver d (no CSIDriver object)`},
		{name: "defaults", object: object(storagev1.CSIDriverSpec{}), target: persistent, attach: true},
		{name: "defaults, inline", object: object(storagev1.CSIDriverSpec{}), target: inline, attach: true, want: `volume mode "Ephemeral" not supported by driver d (only supports ["Persistent"])`},
		{
			name: "inline alone", object: object(storagev1.CSIDriverSpec{AttachRequired: ptr.To(false), VolumeLifecycleModes: []storagev1.VolumeLifecycleMode{"Ephemeral"}}),
			target: persistent, want: `volume mode "Persistent" not supported by driver d (only supports ["Ephemeral"])`,
		},
		{
			name: "both", object: object(storagev1.CSIDriverSpec{AttachRequired: ptr.To(true), VolumeLifecycleModes: []storagev1.VolumeLifecycleMode{"Ephemeral", "Persistent"}}),
			target: inline, attach: true,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := rulesOf(tc.object)
			got := ""
			if err := r.allowed(tc.target); err != nil {
				got = err.Error()
			}
			if got != tc.want || r.attach != tc.attach {
				t.Errorf("allowed: %q, attach %t; want %q, %t", got, r.attach, tc.want, tc.attach)
			}
		})
	}
}

func TestOwns(t *testing.T) {
	pod := &v1.Pod{Spec: v1.PodSpec{SecurityContext: &v1.PodSecurityContext{FSGroup: ptr.To(int64(7))}}}
	rwo, rwx := []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce}, []v1.PersistentVolumeAccessMode{v1.ReadWriteMany}
	for _, tc := range []struct {
		name   string
		policy storagev1.FSGroupPolicy
		target target
		want   bool
	}{
		{"the default wants a file system", storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy, target{pod: pod, accessModes: rwo}, false},
		{"and one writer", storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy, target{pod: pod, accessModes: rwx, fsType: "ext4"}, false},
		{"the default", storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy, target{pod: pod, accessModes: rwo, fsType: "ext4"}, true},
		{"always", storagev1.FileFSGroupPolicy, target{pod: pod, accessModes: rwx}, true},
		{"never", storagev1.NoneFSGroupPolicy, target{pod: pod, accessModes: rwo, fsType: "ext4"}, false},
		{"not what cannot be written", storagev1.FileFSGroupPolicy, target{pod: pod, readOnly: true}, false},
		{"not a device", storagev1.FileFSGroupPolicy, target{pod: pod, block: true}, false},
		{"not for pods without a group", storagev1.FileFSGroupPolicy, target{pod: &v1.Pod{}}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := (rules{fsGroup: tc.policy}).owns(&tc.target); got != tc.want {
				t.Errorf("owns is %t", got)
			}
		})
	}
}

func TestAccessMode(t *testing.T) {
	for _, tc := range []struct {
		mode  v1.PersistentVolumeAccessMode
		multi bool
		want  csispec.VolumeCapability_AccessMode_Mode
	}{
		{"", false, csispec.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
		{v1.ReadWriteOnce, false, csispec.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
		{v1.ReadWriteOnce, true, csispec.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER},
		{v1.ReadWriteOncePod, false, csispec.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
		{v1.ReadWriteOncePod, true, csispec.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER},
		{v1.ReadOnlyMany, true, csispec.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY},
		{v1.ReadWriteMany, true, csispec.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER},
	} {
		var modes []v1.PersistentVolumeAccessMode
		if tc.mode != "" {
			modes = append(modes, tc.mode)
		}
		if got := accessMode(modes, features{multiWriter: tc.multi}); got != tc.want {
			t.Errorf("%q, multi writer %t: %v, want %v", tc.mode, tc.multi, got, tc.want)
		}
	}
}

func TestPublishContext(t *testing.T) {
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u"}, Spec: v1.PodSpec{ServiceAccountName: "sa"}}
	tg := &target{pod: pod, attributes: map[string]string{"a": "b"}, ephemeral: true}
	info := map[string]string{
		"a": "b", "csi.storage.k8s.io/pod.name": "p", "csi.storage.k8s.io/pod.namespace": "ns", "csi.storage.k8s.io/pod.uid": "u",
		"csi.storage.k8s.io/serviceAccount.name": "sa", "csi.storage.k8s.io/ephemeral": "true",
	}
	for _, tc := range []struct {
		name  string
		rules rules
		token string
		want  map[string]string
	}{
		{"nothing more", rules{}, "", map[string]string{"a": "b"}},
		{"the pod", rules{podInfo: true}, "", info},
		{"tokens", rules{}, "T", map[string]string{"a": "b", "csi.storage.k8s.io/serviceAccount.tokens": "T"}},
		{"tokens in secrets", rules{tokensInSecrets: true}, "T", map[string]string{"a": "b"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, tg.publishContext(tc.rules, tc.token)); diff != "" {
				t.Errorf("context (-want +got):\n%s", diff)
			}
		})
	}
	if len(tg.attributes) != 1 {
		t.Errorf("the volume's own attributes were changed: %v", tg.attributes)
	}
	text, err := encodeTokens(map[string]*authenticationv1.TokenRequestStatus{"aud": {Token: "T", ExpirationTimestamp: metav1.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}})
	if want := `{"aud":{"token":"T","expirationTimestamp":"2030-01-02T03:04:05Z"}}`; err != nil || text != want {
		t.Errorf("tokens %s (%v), want %s", text, err, want)
	}
}

func TestSELinuxOption(t *testing.T) {
	level := func(l string) *v1.SELinuxOptions { return &v1.SELinuxOptions{Level: l} }
	pod := func(whole *v1.SELinuxOptions, each ...*v1.SELinuxOptions) *v1.Pod {
		p := &v1.Pod{Spec: v1.PodSpec{SecurityContext: &v1.PodSecurityContext{SELinuxOptions: whole}}}
		for _, o := range each {
			p.Spec.Containers = append(p.Spec.Containers, v1.Container{SecurityContext: &v1.SecurityContext{SELinuxOptions: o}})
		}
		return p
	}
	rwop := []v1.PersistentVolumeAccessMode{v1.ReadWriteOncePod}
	for _, tc := range []struct {
		name   string
		rules  rules
		target target
		want   string
	}{
		{"the pod's", rules{selinux: true}, target{pod: pod(level("s0:c1,c2"), nil, nil), accessModes: rwop}, `context="system_u:object_r:container_file_t:s0:c1,c2"`},
		{"all containers' own", rules{selinux: true}, target{pod: pod(nil, level("s0:c3"), level("s0:c3")), accessModes: rwop}, `context="system_u:object_r:container_file_t:s0:c3"`},
		{"not when they differ", rules{selinux: true}, target{pod: pod(level("s0:c1"), nil, level("s0:c3")), accessModes: rwop}, ""},
		{"not when the runtime chooses", rules{selinux: true}, target{pod: pod(nil, nil), accessModes: rwop}, ""},
		{"not when the driver does not want", rules{}, target{pod: pod(level("s0:c1"), nil), accessModes: rwop}, ""},
		{"not when several pods may use it", rules{selinux: true}, target{pod: pod(level("s0:c1"), nil), accessModes: []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce}}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.rules.selinuxOption(&tc.target); got != tc.want {
				t.Errorf("option %q, want %q", got, tc.want)
			}
		})
	}
}

func TestGrowth(t *testing.T) {
	claim := func(have string, state v1.ClaimResourceStatus) *v1.PersistentVolumeClaim {
		c := &v1.PersistentVolumeClaim{}
		if have != "" {
			c.Status.Capacity = v1.ResourceList{v1.ResourceStorage: resource.MustParse(have)}
		}
		if state != "" {
			c.Status.AllocatedResourceStatuses = map[v1.ResourceName]v1.ClaimResourceStatus{v1.ResourceStorage: state}
		}
		return c
	}
	pv := &v1.PersistentVolume{Spec: v1.PersistentVolumeSpec{Capacity: v1.ResourceList{v1.ResourceStorage: resource.MustParse("2Gi")}}}
	for _, tc := range []struct {
		name     string
		claim    *v1.PersistentVolumeClaim
		have     int64
		readOnly bool
		want     bool
	}{
		{"as large as it says", claim("2Gi", ""), 0, false, false},
		{"larger than the claim knows", claim("1Gi", ""), 0, false, true},
		{"pending", claim("1Gi", v1.PersistentVolumeClaimNodeResizePending), 1 << 30, false, true},
		{"given up", claim("1Gi", v1.PersistentVolumeClaimNodeResizeInfeasible), 0, false, false},
		{"read-only", claim("1Gi", ""), 0, true, false},
		{"grown by another node", claim("2Gi", ""), 1 << 30, false, true},
		{"known to be as large", claim("2Gi", ""), 2 << 30, false, false},
		{"a claim without a size", claim("", ""), 0, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			size, got := growth(tc.claim, pv, tc.have, tc.readOnly)
			if got != tc.want || got && size.String() != "2Gi" {
				t.Errorf("grow %t to %s, want %t", got, size.String(), tc.want)
			}
		})
	}
}

func TestClaimStatusAfterExpansion(t *testing.T) {
	before := &v1.PersistentVolumeClaim{Status: v1.PersistentVolumeClaimStatus{
		Capacity:                  v1.ResourceList{v1.ResourceStorage: resource.MustParse("1Gi")},
		AllocatedResourceStatuses: map[v1.ResourceName]v1.ClaimResourceStatus{v1.ResourceStorage: v1.PersistentVolumeClaimNodeResizePending},
		Conditions: []v1.PersistentVolumeClaimCondition{
			{Type: v1.PersistentVolumeClaimFileSystemResizePending, Status: v1.ConditionTrue}, {Type: "Other", Status: v1.ConditionTrue},
		},
	}}
	done := before.DeepCopy()
	grown(done, resource.MustParse("2Gi"))
	want := v1.PersistentVolumeClaimStatus{
		Capacity:                  v1.ResourceList{v1.ResourceStorage: resource.MustParse("2Gi")},
		AllocatedResourceStatuses: map[v1.ResourceName]v1.ClaimResourceStatus{},
		Conditions:                []v1.PersistentVolumeClaimCondition{{Type: "Other", Status: v1.ConditionTrue}},
	}
	if diff := cmp.Diff(want, done.Status); diff != "" {
		t.Errorf("after success (-want +got):\n%s", diff)
	}
	for _, tc := range []struct {
		name string
		err  error
		want v1.ClaimResourceStatus
	}{
		{"for now", status.Error(codes.Internal, "no"), v1.PersistentVolumeClaimNodeResizePending},
		{"for good", status.Error(codes.OutOfRange, "no"), v1.PersistentVolumeClaimNodeResizeInfeasible},
	} {
		t.Run("failed "+tc.name, func(t *testing.T) {
			c := before.DeepCopy()
			failedToGrow(c, tc.err, infeasible(tc.err))
			if got := c.Status.AllocatedResourceStatuses[v1.ResourceStorage]; got != tc.want {
				t.Errorf("status %s, want %s", got, tc.want)
			}
			if n := len(c.Status.Conditions); n != 3 || c.Status.Conditions[2].Type != v1.PersistentVolumeClaimNodeResizeError {
				t.Errorf("conditions %v", c.Status.Conditions)
			}
		})
	}
}
