package iscsi

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"skiff/kubelet/volumes/volume"
)

// texts are command lines, with the codes that are fine in front of them.
func texts(commands []command) []string {
	var out []string
	for _, c := range commands {
		line := strings.Join(c.args, " ")
		switch {
		case slices.Contains(c.fine, anyCode):
			line = "? " + line
		case slices.Contains(c.fine, sessionExists):
			line = "15 " + line
		case slices.Contains(c.fine, noObjects):
			line = "21 " + line
		}
		out = append(out, line)
	}
	return out
}

func TestCommands(t *testing.T) {
	plain := target{Portals: []string{"10.0.0.1:3260"}, IQN: "iqn.x:d", LUN: 3, Interface: "default"}
	two := plain
	two.Portals = []string{"10.0.0.1:3260", "10.0.0.2:3260"}
	chapped := plain
	chapped.DiscoveryCHAP, chapped.SessionCHAP = true, true
	named := plain
	named.Interface, named.Base, named.Initiator = "10.0.0.1:3260:pv", "default", "iqn.node"
	secret := map[string]string{
		"discovery.sendtargets.auth.username": "du", "discovery.sendtargets.auth.password": "dp",
		"node.session.auth.username": "su", "node.session.auth.password": "sp", "node.session.auth.username_in": "iu", "node.session.auth.password_in": "ip",
		"other": "not told",
	}
	const db, node = "-m discoverydb -t sendtargets -p 10.0.0.1:3260 -I default", "-m node -p 10.0.0.1:3260 -T iqn.x:d -I default"
	for name, tc := range map[string]struct {
		got  []command
		want []string
	}{
		"discover": {plain.discover(plain.Portals[0], secret), []string{db + " -o new", db + " --discover"}},
		"discover with CHAP": {chapped.discover(plain.Portals[0], secret), []string{
			db + " -o new", db + " -o update -n discovery.sendtargets.auth.authmethod -v CHAP",
			db + " -o update -n discovery.sendtargets.auth.username -v du", db + " -o update -n discovery.sendtargets.auth.password -v dp", db + " --discover",
		}},
		"login": {plain.login(plain.Portals[0], secret), []string{
			"? " + node + " -o update -n node.session.scan -v manual", node + " -o update -n node.startup -v manual", "15 " + node + " --login",
		}},
		"login with CHAP": {chapped.login(plain.Portals[0], secret), []string{
			node + " -o update -n node.session.auth.authmethod -v CHAP",
			node + " -o update -n node.session.auth.username -v su", node + " -o update -n node.session.auth.password -v sp",
			node + " -o update -n node.session.auth.username_in -v iu", node + " -o update -n node.session.auth.password_in -v ip",
			"? " + node + " -o update -n node.session.scan -v manual", node + " -o update -n node.startup -v manual", "15 " + node + " --login",
		}},
		"a name of its own": {named.newInterface(settings("# BEGIN RECORD\niface.iscsi_ifacename = default\niface.transport_name = tcp\niface.initiatorname = iqn.host\niface.mtu = 0\niface.hwaddress = <empty>\n")), []string{
			"15 -m iface -I 10.0.0.1:3260:pv -o new",
			"-m iface -I 10.0.0.1:3260:pv -o update -n iface.mtu -v 0",
			"-m iface -I 10.0.0.1:3260:pv -o update -n iface.transport_name -v tcp",
			"-m iface -I 10.0.0.1:3260:pv -o update -n iface.initiatorname -v iqn.node",
		}},
		"logout of the last":               {plain.logout(nil), []string{"21 " + node + " --logout", "21 " + node + " -o delete", "21 " + db + " -o delete"}},
		"another disk of the target stays": {plain.logout([]target{plain}), nil},
		"another target of the portal stays": {plain.logout([]target{{Portals: plain.Portals, IQN: "iqn.x:e", Interface: "default"}}), []string{
			"21 " + node + " --logout", "21 " + node + " -o delete",
		}},
		"a disk by another portal stays": {two.logout([]target{plain}), []string{
			"21 -m node -p 10.0.0.2:3260 -T iqn.x:d -I default --logout", "21 -m node -p 10.0.0.2:3260 -T iqn.x:d -I default -o delete",
			"21 -m discoverydb -t sendtargets -p 10.0.0.2:3260 -I default -o delete",
		}},
		"a disk by another interface stays": {named.logout([]target{plain}), []string{
			"21 -m node -p 10.0.0.1:3260 -T iqn.x:d -I 10.0.0.1:3260:pv --logout", "21 -m node -p 10.0.0.1:3260 -T iqn.x:d -I 10.0.0.1:3260:pv -o delete",
			"21 -m discoverydb -t sendtargets -p 10.0.0.1:3260 -I 10.0.0.1:3260:pv -o delete",
			"21 -m iface -I 10.0.0.1:3260:pv -o delete",
		}},
	} {
		if d := cmp.Diff(tc.want, texts(tc.got)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

func TestWished(t *testing.T) {
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}}
	inline := func(s v1.ISCSIVolumeSource) *volume.Request {
		s.IQN, s.Lun = "iqn.x:d", 3
		return &volume.Request{Pod: pod, Volume: &v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{ISCSI: &s}}}
	}
	persistent := func(s v1.ISCSIPersistentVolumeSource) *volume.Request {
		s.IQN, s.Lun = "iqn.x:d", 3
		return &volume.Request{
			Pod: pod, Volume: &v1.Volume{Name: "v"}, PVC: &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}},
			PV: &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"}, Spec: v1.PersistentVolumeSpec{
				MountOptions: []string{"noatime"}, PersistentVolumeSource: v1.PersistentVolumeSource{ISCSI: &s},
			}},
		}
	}
	plain := target{Portals: []string{"10.0.0.1:3260"}, IQN: "iqn.x:d", LUN: 3, Interface: "default"}
	edited := func(edit func(*target)) target {
		out := plain
		edit(&out)
		return out
	}
	for name, tc := range map[string]struct {
		r    *volume.Request
		want wish
	}{
		"inline": {inline(v1.ISCSIVolumeSource{TargetPortal: "10.0.0.1", FSType: "xfs", ReadOnly: true}), wish{target: plain, fsType: "xfs", readOnly: true}},
		"portals": {inline(v1.ISCSIVolumeSource{TargetPortal: "10.0.0.1:3260", Portals: []string{"10.0.0.1", "[fd00::1]", "10.0.0.2:860"}}),
			wish{target: edited(func(t *target) { t.Portals = []string{"10.0.0.1:3260", "[fd00::1]:3260", "10.0.0.2:860"} })}},
		"interface": {inline(v1.ISCSIVolumeSource{TargetPortal: "10.0.0.1", ISCSIInterface: "eth1"}), wish{target: edited(func(t *target) { t.Interface = "eth1" })}},
		"secret": {inline(v1.ISCSIVolumeSource{TargetPortal: "10.0.0.1", SessionCHAPAuth: true, SecretRef: &v1.LocalObjectReference{Name: "s"}}),
			wish{target: edited(func(t *target) { t.SessionCHAP = true }), secret: &v1.SecretReference{Namespace: "ns", Name: "s"}}},
		"persistent": {persistent(v1.ISCSIPersistentVolumeSource{TargetPortal: "10.0.0.1", DiscoveryCHAPAuth: true, SecretRef: &v1.SecretReference{Namespace: "other", Name: "s"}}),
			wish{target: edited(func(t *target) { t.DiscoveryCHAP = true }), secret: &v1.SecretReference{Namespace: "other", Name: "s"}, mountOptions: []string{"noatime"}}},
		"persistent, with a secret of the claim's namespace": {persistent(v1.ISCSIPersistentVolumeSource{TargetPortal: "10.0.0.1", SecretRef: &v1.SecretReference{Name: "s"}}),
			wish{target: plain, secret: &v1.SecretReference{Namespace: "ns", Name: "s"}, mountOptions: []string{"noatime"}}},
		"initiator": {persistent(v1.ISCSIPersistentVolumeSource{TargetPortal: "10.0.0.1", ISCSIInterface: "eth1", InitiatorName: ptr.To("iqn.node")}),
			wish{target: edited(func(t *target) { t.Initiator, t.Base, t.Interface = "iqn.node", "eth1", "10.0.0.1:3260:pv" }), mountOptions: []string{"noatime"}}},
	} {
		if d := cmp.Diff(tc.want, wished(tc.r), cmp.AllowUnexported(wish{})); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}
