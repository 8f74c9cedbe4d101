package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

const csiDriver = "hostpath.csi.skiff.test"

// kubeletDirs are the nodes' kubelet folders by the nodes' names.
func (s *space) kubeletDirs() map[string]string {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.Root, "nodes/*/var/lib/skiff/node.yaml"))
	if err != nil {
		s.t.Fatal(err)
	}
	name := regexp.MustCompile(`(?m)^name: (.*)$`)
	out := map[string]string{}
	for _, f := range append(files, filepath.Join(s.Root, "var/lib/skiff/node.yaml")) {
		b, err := os.ReadFile(f)
		if err != nil {
			s.t.Fatal(err)
		}
		match := name.FindSubmatch(b)
		if match == nil {
			s.t.Fatalf("%s names no node", f)
		}
		out[string(match[1])] = filepath.Join(filepath.Dir(f), "../kubelet")
	}
	return out
}

// deployCSI starts the driver on every node. The nodes share a machine, so each
// has its own DaemonSet, which knows the node's folder.
func (s *space) deployCSI() {
	s.t.Helper()
	manifest, err := os.ReadFile("../testdata/manifests/csi-driver.yaml")
	if err != nil {
		s.t.Fatal(err)
	}
	var shared, daemon string
	for part := range strings.SplitSeq(string(manifest), "\n---\n") {
		if strings.Contains(part, "kind: DaemonSet") {
			daemon = part
		} else {
			shared += part + "\n---\n"
		}
	}
	system := &space{cluster: s.cluster, t: s.t, name: "kube-system"}
	system.apply(shared)
	s.t.Cleanup(func() {
		// After a failure there are pods still, whose volumes only the driver
		// can take down.
		if out, err := s.try("", "delete", "pods", "--all", "--timeout=60s"); err != nil {
			s.t.Errorf("delete the pods: %v: %s", err, out)
		}
		system.removeCSI(shared)
	})
	i := 0
	for node, dir := range s.kubeletDirs() {
		i++
		name := fmt.Sprintf("csi-driver-%d", i)
		own := strings.ReplaceAll(daemon, "/var/lib/kubelet", filepath.Clean(dir))
		own = strings.Replace(own, "{name: csi-driver, namespace", "{name: "+name+", namespace", 1)
		own = strings.ReplaceAll(own, "app: csi-driver", "app: "+name)
		own = strings.Replace(own, "      serviceAccountName:", "      nodeSelector: {kubernetes.io/hostname: "+node+"}\n      serviceAccountName:", 1)
		system.apply(own)
		system.run("rollout", "status", "daemonset/"+name, "--timeout=90s")
	}
	for node := range s.kubeletDirs() {
		s.until(30*time.Second, csiDriver, "get", "csinode", node, "-o", "jsonpath={.spec.drivers[*].name}")
	}
}

// removeCSI takes the driver away, which the nodes notice.
func (s *space) removeCSI(shared string) {
	s.t.Helper()
	for i := range len(s.kubeletDirs()) {
		if out, err := s.try("", "delete", "daemonset", fmt.Sprintf("csi-driver-%d", i+1), "--timeout=60s"); err != nil {
			s.t.Errorf("delete the driver: %v: %s", err, out)
		}
	}
	s.eventually(60*time.Second, "no driver on any node", func() error {
		out, err := s.try("", "get", "csinodes", "-o", "jsonpath={.items[*].spec.drivers[*].name}")
		if err == nil && strings.TrimSpace(out) != "" {
			err = errors.New(out)
		}
		return err
	})
	if out, err := s.try(shared, "delete", "-f", "-"); err != nil {
		s.t.Errorf("delete the driver's rights: %v: %s", err, out)
	}
}

// csiClaim is a claim on the driver's class.
func csiClaim(name, mode, size string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: %s}
spec:
  storageClassName: csi-hostpath
  accessModes: [ReadWriteOnce]
  volumeMode: %s
  resources: {requests: {storage: %s}}
`, name, mode, size)
}

// csiPod is a busybox pod with a volume; use is how its container has it,
// source what it is.
func csiPod(name, script, use, source string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {fsGroup: 1234}
  containers:
    - name: main
      image: busybox
      command: [sh, -c, %q]
      %s
  volumes:
    - name: v
      %s
`, name, script+"; exec sleep 3600", use, source)
}

func claimSource(claim string) string { return "persistentVolumeClaim: {claimName: " + claim + "}" }

const mountUse = "volumeMounts: [{name: v, mountPath: /v}]"

// csiVolumes takes the volumes of a CSI driver through their lives: made,
// attached, mounted, grown, used while skiff is killed, and gone.
//
// Covers: node.csi
func csiVolumes(s *space) {
	s.deployCSI()

	s.apply(csiClaim("files", "Filesystem", "1Gi"))
	s.until(20*time.Second, "WaitForFirstConsumer", "get", "events", "-o", "custom-columns=R:.reason")
	s.apply(csiPod("writer", "echo written > /v/file", mountUse, claimSource("files")))
	s.ready("pod/writer")
	s.says([]string{"SuccessfulAttachVolume"}, "get", "events", "--field-selector", "involvedObject.name=writer", "-o", "custom-columns=R:.reason")
	s.says([]string{"Bound"}, "get", "pvc", "files")
	node := s.field("pod/writer", ".spec.nodeName")
	if got := s.field("node/"+node, ".status.volumesAttached[*].name"); !strings.Contains(got, "kubernetes.io/csi/"+csiDriver+"^") {
		s.t.Errorf("the node's volumesAttached are %q", got)
	}
	if got := s.run("exec", "writer", "--", "stat", "-c", "%g %a", "/v"); !strings.HasPrefix(got, "1234 ") {
		s.t.Errorf("the volume's group and mode are %q, want 1234", got)
	}

	s.run("delete", "pod", "writer", "--timeout=60s")
	s.apply(csiPod("reader", "true", mountUse, claimSource("files")))
	s.ready("pod/reader")
	s.says([]string{"written"}, "exec", "reader", "--", "cat", "/v/file")
	if got := s.field("pod/reader", ".spec.nodeName"); got != node {
		s.t.Errorf("the pod came to node %s, but its volume is on %s", got, node)
	}

	s.inline()
	block := s.device()

	s.run("patch", "pvc", "files", "-p", `{"spec":{"resources":{"requests":{"storage":"3Gi"}}}}`)
	s.kill(s.t)
	s.up(s.t)
	s.until(30*time.Second, "written", "exec", "reader", "--", "cat", "/v/file")
	// The node looks at volumes of running pods once a minute.
	s.until(150*time.Second, "3Gi", "get", "pvc", "files", "-o", "jsonpath={.status.capacity.storage}")
	s.until(30*time.Second, "FileSystemResizeSuccessful", "get", "events", "-o", "custom-columns=R:.reason")
	// The sidecar may have seen the volume too late, and then takes back what it said.
	s.until(30*time.Second, "conditions:.", "get", "pvc", "files", "-o", "jsonpath=conditions:{.status.conditions}.")
	s.until(90*time.Second, `"pvcRef":{"name":"files"`, "get", "--raw", "/api/v1/nodes/"+node+"/proxy/stats/summary")

	s.run("delete", "pod", "reader", "inline", "--timeout=60s")
	if block {
		s.says([]string{"on a device"}, "exec", "block", "--", "dd", "if=/dev/v", "bs=16", "count=1")
		s.run("delete", "pod", "block", "--timeout=60s")
		s.run("delete", "pvc", "device", "--timeout=60s")
	}
	s.run("delete", "pvc", "files", "--timeout=60s")
	s.eventually(60*time.Second, "nothing left of the volumes", s.nothingOfCSI)
}

// inline uses a volume that lives as long as its pod.
func (s *space) inline() {
	s.t.Helper()
	s.apply(csiPod("inline", "echo mine > /v/file", mountUse, "csi: {driver: "+csiDriver+", volumeAttributes: {colour: red}}"))
	s.ready("pod/inline")
	for file, want := range map[string]string{"file": "mine", "colour": "red", "pod.name": "inline", "pod.namespace": s.name, "ephemeral": "true"} {
		s.says([]string{want}, "exec", "inline", "--", "cat", "/v/"+file)
	}
}

// device uses a volume as a device, where the machine has loop devices.
func (s *space) device() bool {
	s.t.Helper()
	f, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		s.t.Logf("volumes as devices are left out: no loop devices: %v", err)
		return false
	}
	if err := f.Close(); err != nil {
		s.t.Fatal(err)
	}
	s.apply(csiClaim("device", "Block", "4Mi"))
	s.apply(csiPod("block", "echo on a device | dd of=/dev/v bs=16 conv=sync", "volumeDevices: [{name: v, devicePath: /dev/v}]", claimSource("device")))
	s.ready("pod/block")
	return true
}

// nothingOfCSI says what is left of volumes in the cluster and on the machine.
func (s *space) nothingOfCSI() error {
	for _, args := range [][]string{{"get", "volumeattachments", "-o", "name"}, {"get", "pv", "-o", "jsonpath={.items[?(@.spec.csi.driver==\"" + csiDriver + "\")].metadata.name}"}} {
		out, err := s.try("", args...)
		if err != nil {
			return err
		}
		if strings.TrimSpace(out) != "" {
			return errors.New(out)
		}
	}
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, s.Root) && (strings.Contains(line, "kubernetes.io~csi") || strings.Contains(line, "plugins/kubernetes.io/csi")) {
			return fmt.Errorf("mounted: %s", line)
		}
	}
	for _, dir := range s.kubeletDirs() {
		for _, pattern := range []string{"plugins/kubernetes.io/csi/*/*/vol_data.json", "plugins/kubernetes.io/csi/volumeDevices/*/data", "pods/*/volumes/kubernetes.io~csi/*", "plugins/" + csiDriver + "/volumes/*"} {
			if left, err := filepath.Glob(filepath.Join(dir, pattern)); err != nil || len(left) > 0 {
				return fmt.Errorf("left on a node: %v (%v)", left, err)
			}
		}
	}
	return nil
}
