package conformance

import (
	"net"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"skiff/e2e/harness"
)

// What a variable makes of a subPath cannot leave the volume either.
func TestStorageSubPathExpr(t *testing.T) {
	for name, tc := range map[string]struct {
		label string
		fails string
	}{
		"part":       {"a/b", ""},
		"upwards":    {"../../etc", "unable to provision SubPath `../../etc`: must not contain '..'"},
		"dots-after": {"a/../../..", "unable to provision SubPath `a/../../..`: must not contain '..'"},
		"absolute":   {"/etc", "error SubPath `/etc` must not be an absolute path"},
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			p := mounted(probePod("pod", "create", "/part/f", "0644", "x"), "/part", emptyDir(""))
			mounted(p, "/whole", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
			p.Annotations = map[string]string{"where": tc.label}
			c := &p.Spec.Containers[0]
			c.Env = []corev1.EnvVar{{Name: "WHERE", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations['where']"}}}}
			c.VolumeMounts[0].SubPathExpr = "$(WHERE)"
			if tc.fails == "" {
				same(t, s.looks(p), seen{Path: "/part/f", Perm: "-rw-r--r--", Content: "x"})
				return
			}
			s.pod(p)
			s.event("pod", "Warning", tc.fails)
		})
	}
}

// No controller asks an address that a storage class or a claim names
// (CVE-2020-8555, CVE-2025-13281).
func TestStorageClassAddressesAreNotAsked(t *testing.T) {
	if shared == nil {
		t.Skip(why)
	}
	l, err := net.Listen("tcp", harness.HostAddress+":0")
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan string, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // the test has ended
			}
			select {
			case asked <- c.RemoteAddr().String():
			default:
			}
			c.Close()
		}
	}()
	for name, provisioner := range map[string]string{
		"glusterfs": "kubernetes.io/glusterfs", "scaleio": "kubernetes.io/scaleio", "storageos": "kubernetes.io/storageos", "quobyte": "kubernetes.io/quobyte",
		"portworx": "kubernetes.io/portworx-volume", "built-in": "skiff.io/local-path",
	} {
		t.Run(name, func(t *testing.T) {
			s := alone(t)
			immediate := storagev1.VolumeBindingImmediate
			s.claim("c", s.class(func(c *storagev1.StorageClass) {
				url := "http://" + l.Addr().String()
				c.Provisioner, c.VolumeBindingMode = provisioner, &immediate
				c.Parameters = map[string]string{"resturl": url, "gateway": url, "adminSecretName": url, "quobyteAPIServer": url, "endpoint": url}
			}))
			s.event("c", "Normal", "Waiting for a volume to be created either by the external provisioner '"+provisioner+"'")
		})
	}
	l.Close()
	select {
	case from := <-asked:
		t.Errorf("the address of a storage class was asked by %s", from)
	default:
	}
}
