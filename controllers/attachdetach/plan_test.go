package attachdetach

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func volume(name string, modes ...v1.PersistentVolumeAccessMode) *v1.PersistentVolume {
	if len(modes) == 0 {
		modes = []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce}
	}
	return &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1.PersistentVolumeSpec{
		AccessModes: modes, PersistentVolumeSource: v1.PersistentVolumeSource{CSI: &v1.CSIPersistentVolumeSource{Driver: "d", VolumeHandle: "h-" + name}},
		ClaimRef: &v1.ObjectReference{Namespace: "ns", Name: "claim-" + name},
	}}
}

func attachment(volume, node string, attached bool) *storage.VolumeAttachment {
	return &storage.VolumeAttachment{
		ObjectMeta: metav1.ObjectMeta{Name: AttachmentName("h-"+volume, "d", node)},
		Spec:       storage.VolumeAttachmentSpec{Attacher: "d", NodeName: node, Source: storage.VolumeAttachmentSource{PersistentVolumeName: &volume}},
		Status:     storage.VolumeAttachmentStatus{Attached: attached},
	}
}

func node(up bool, inUse ...string) *v1.Node {
	n := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: v1.NodeStatus{Conditions: []v1.NodeCondition{{Type: v1.NodeReady, Status: v1.ConditionFalse}}}}
	if up {
		n.Status.Conditions[0].Status = v1.ConditionTrue
	}
	for _, v := range inUse {
		n.Status.VolumesInUse = append(n.Status.VolumesInUse, UniqueName("d", "h-"+v))
	}
	return n
}

func TestDecide(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	tainted := node(true, "a")
	tainted.Spec.Taints = []v1.Taint{{Key: v1.TaintNodeOutOfService, Effect: v1.TaintEffectNoExecute}}
	going := attachment("a", "n", true)
	going.DeletionTimestamp = &metav1.Time{Time: now}
	one := func(a *storage.VolumeAttachment) map[string]*storage.VolumeAttachment {
		return map[string]*storage.VolumeAttachment{*a.Spec.Source.PersistentVolumeName: a}
	}
	type want struct {
		attach, busy, attached, detach []string
		held                           bool
	}
	for _, tc := range []struct {
		name      string
		node      *v1.Node
		wanted    []*v1.PersistentVolume
		here      map[string]*storage.VolumeAttachment
		elsewhere map[string]string
		unwanted  time.Duration
		lost      bool // the volume's object is gone
		want      want
	}{
		{name: "nothing", node: node(true)},
		{name: "a pod needs a volume", node: node(true), wanted: []*v1.PersistentVolume{volume("a")}, want: want{attach: []string{"a"}}},
		{name: "on a node that is not there", wanted: []*v1.PersistentVolume{volume("a")}},
		{name: "the driver has not attached it yet", node: node(true), wanted: []*v1.PersistentVolume{volume("a")}, here: one(attachment("a", "n", false))},
		{name: "attached", node: node(true, "a"), wanted: []*v1.PersistentVolume{volume("a")}, here: one(attachment("a", "n", true)), want: want{attached: []string{"a"}}},
		{name: "being detached, though wanted again", node: node(true), wanted: []*v1.PersistentVolume{volume("a")}, here: one(going)},
		{name: "held by another node", node: node(true), wanted: []*v1.PersistentVolume{volume("a")}, elsewhere: map[string]string{"a": "m"}, want: want{busy: []string{"a"}}},
		{
			name: "shared with another node", node: node(true), wanted: []*v1.PersistentVolume{volume("a", v1.ReadWriteMany)},
			elsewhere: map[string]string{"a": "m"}, want: want{attach: []string{"a"}},
		},
		{name: "not needed any more", node: node(true), here: one(attachment("a", "n", true)), want: want{detach: []string{"a"}}},
		{name: "not needed, but still mounted", node: node(true, "a"), here: one(attachment("a", "n", true)), unwanted: time.Hour, want: want{attached: []string{"a"}, held: true}},
		{name: "still mounted on a node that went silent", node: node(false, "a"), here: one(attachment("a", "n", true)), unwanted: time.Minute, want: want{attached: []string{"a"}, held: true}},
		{name: "for long", node: node(false, "a"), here: one(attachment("a", "n", true)), unwanted: 7 * time.Minute, want: want{detach: []string{"a"}}},
		{name: "out of service", node: tainted, here: one(attachment("a", "n", true)), want: want{detach: []string{"a"}}},
		{name: "out of service, but needed", node: tainted, wanted: []*v1.PersistentVolume{volume("a")}, here: one(attachment("a", "n", true)), want: want{attached: []string{"a"}}},
		{name: "the node is gone", here: one(attachment("a", "n", true)), want: want{detach: []string{"a"}}},
		{name: "the volume is gone", node: node(true, "a"), here: one(attachment("a", "n", true)), lost: true, want: want{detach: []string{"a"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := Input{Node: tc.node, Now: now, Wanted: tc.wanted, Here: tc.here, Elsewhere: tc.elsewhere, Known: map[string]*v1.PersistentVolume{}, Unwanted: map[string]time.Time{}}
			for name := range tc.here {
				if !tc.lost {
					in.Known[name] = volume(name)
				}
				in.Unwanted[name] = now.Add(-tc.unwanted)
			}
			plan := Decide(in)
			got := want{held: plan.Held}
			for _, v := range plan.Attach {
				got.attach = append(got.attach, v.Name)
			}
			for _, v := range plan.Busy {
				got.busy = append(got.busy, v.Name)
			}
			for _, a := range plan.Attached {
				got.attached = append(got.attached, string(a.Name)[len("kubernetes.io/csi/d^h-"):])
			}
			for _, a := range plan.Detach {
				got.detach = append(got.detach, *a.Spec.Source.PersistentVolumeName)
			}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(want{})); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}
