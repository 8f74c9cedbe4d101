package e2e

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"
)

// Covers: api.health
func serverAnswers(s *space) {
	s.says([]string{"Server Version: v1.37."}, "version")
	s.says([]string{"Kubernetes control plane", "is running at"}, "cluster-info")
	for _, path := range []string{"/livez", "/readyz", "/healthz"} {
		s.says([]string{"ok"}, "get", "--raw", path)
	}
	s.says([]string{"apiserver_request_total"}, "get", "--raw", "/metrics")
	s.says([]string{"Ready", "v1.37."}, "get", "nodes", "-o", "wide")
	s.says([]string{"default", "kube-node-lease", "kube-public", "kube-system"}, "get", "namespaces")
	s.says([]string{"yes"}, "auth", "can-i", "create", "pods")
	s.refused("no", "auth", "can-i", "create", "pods", "--as", "system:serviceaccount:default:default")
}

// Covers: kubectl.discovery
func discoveryAndExplain(s *space) {
	s.says([]string{"pods", "deployments", "leases", "validatingadmissionpolicies", "endpointslices"}, "api-resources", "-o", "name")
	s.says([]string{"apps/v1", "batch/v1", "networking.k8s.io/v1", "v1"}, "api-versions")
	s.says([]string{"KIND:", "Deployment", "FIELDS:", "spec", "status"}, "explain", "deployment")
	s.says([]string{"livenessProbe", "resources"}, "explain", "pod.spec.containers")
}

// everyKind takes objects of many kinds through their life.
//
// Covers: api.every-kind, kubectl.describe
func everyKind(s *space) {
	b, err := os.ReadFile("../testdata/manifests/kinds.yaml")
	if err != nil {
		s.t.Fatal(err)
	}
	manifest := strings.ReplaceAll(string(b), "e2e-namespace", s.name)
	s.apply(manifest)
	for line := range strings.Lines(s.apply(manifest)) {
		object, result, _ := strings.Cut(strings.TrimSpace(line), " ")
		kind, _, _ := strings.Cut(object, "/")
		// For these kubectl always finds a difference: a write-only field, a
		// selector that is replaced, defaults inside lists that are replaced.
		replaced := []string{"secret", "poddisruptionbudget.policy", "endpointslice.discovery.k8s.io", "validatingadmissionpolicy.admissionregistration.k8s.io"}
		if result != "unchanged" && !slices.Contains(replaced, kind) {
			s.t.Errorf("the second apply: %s", line)
		}
	}
	for _, args := range [][]string{
		{"get", "-f", "-", "-o", "name"}, {"get", "-f", "-", "-o", "wide"}, {"get", "-f", "-", "-o", "yaml"},
		{"describe", "-f", "-"}, {"label", "-f", "-", "e2e=yes"}, {"annotate", "-f", "-", "note=e2e"},
		{"delete", "-f", "-", "--timeout=60s"},
	} {
		if out, err := s.try(manifest, args...); err != nil {
			s.t.Errorf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// Covers: kubectl.get
func outputFormats(s *space) {
	s.run("create", "configmap", "cm", "--from-literal=a=1", "--from-literal=b=2")
	s.says([]string{"NAME", "DATA", "AGE", "cm", "2"}, "get", "configmap", "cm")
	s.says([]string{`"kind": "ConfigMap"`, `"a": "1"`}, "get", "configmap", "cm", "-o", "json")
	s.says([]string{"kind: ConfigMap"}, "get", "configmap", "cm", "-o", "yaml")
	s.says([]string{"A", "1"}, "get", "configmap", "cm", "-o", "custom-columns=A:.data.a")
	if got := s.field("configmap/cm", ".data.b"); got != "2" {
		s.t.Errorf("jsonpath gave %q, want 2", got)
	}
	s.run("label", "configmap", "cm", "tier=back")
	s.says([]string{"cm"}, "get", "configmaps", "-l", "tier in (back)")
	s.says([]string{"No resources found"}, "get", "configmaps", "-l", "tier=front")
	s.says([]string{"cm"}, "get", "configmaps", "--field-selector", "metadata.name=cm")
	s.says([]string{"configmap/cm"}, "get", "configmaps", "-o", "name", "--chunk-size=1")
}

// Covers: kubectl.patch-edit, api.patch
func patches(s *space) {
	s.run("create", "configmap", "cm", "--from-literal=a=1")
	s.run("patch", "configmap", "cm", "-p", `{"data":{"b":"2"}}`)
	s.run("patch", "configmap", "cm", "--type=merge", "-p", `{"data":{"c":"3"}}`)
	s.run("patch", "configmap", "cm", "--type=json", "-p", `[{"op":"test","path":"/data/a","value":"1"},{"op":"remove","path":"/data/a"}]`)
	if got := s.field("configmap/cm", ".data"); got != `{"b":"2","c":"3"}` {
		s.t.Errorf("after three patches the data is %s", got)
	}
	s.run("create", "deployment", "d", "--image=nginx", "--replicas=0")
	s.run("patch", "deployment", "d", "-p", `{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"busybox"}]}}}}`)
	if got := s.field("deployment/d", ".spec.template.spec.containers[*].name"); got != "side nginx" && got != "nginx side" {
		s.t.Errorf("a strategic merge patch left the containers %q, want both", got)
	}
	s.run("patch", "deployment", "d", "--subresource=scale", "--type=merge", "-p", `{"spec":{"replicas":0}}`)
	before := s.field("configmap/cm", ".metadata.resourceVersion")
	s.run("patch", "configmap", "cm", "-p", `{"data":{"b":"9"}}`, "--dry-run=server")
	if after := s.field("configmap/cm", ".metadata.resourceVersion"); after != before {
		s.t.Errorf("a dry run moved the resource version from %s to %s", before, after)
	}
}

// Covers: api.apply, kubectl.patch-edit
func serverSideApply(s *space) {
	manifest := func(value string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cm}\ndata: {a: \"" + value + "\"}\n"
	}
	if out, err := s.try(manifest("1"), "apply", "--server-side", "--field-manager=one", "-f", "-"); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	out, err := s.try(manifest("2"), "apply", "--server-side", "--field-manager=two", "-f", "-")
	if err == nil || !strings.Contains(out, `conflict with "one"`) {
		s.t.Errorf("another manager's apply: error %v, want a conflict with \"one\":\n%s", err, out)
	}
	if out, err := s.try(manifest("2"), "apply", "--server-side", "--field-manager=two", "--force-conflicts", "-f", "-"); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	s.says([]string{"manager: two", "f:a"}, "get", "configmap", "cm", "-o", "yaml", "--show-managed-fields")
	if got := s.field("configmap/cm", ".data.a"); got != "2" {
		s.t.Errorf("the value is %q, want 2", got)
	}
}

// Covers: api.watch
func watch(s *space) {
	s.run("create", "configmap", "cm")
	lines, stop := s.stream(60*time.Second, "get", "configmaps", "--watch", "--output-watch-events", "--field-selector", "metadata.name=cm", "--no-headers")
	defer stop()
	next := func(want string) {
		s.t.Helper()
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), want) {
			s.t.Fatalf("the watch said %q, want %s", lines.Text(), want)
		}
	}
	next("ADDED")
	s.run("label", "configmap", "cm", "a=b")
	next("MODIFIED")
	s.run("delete", "configmap", "cm")
	next("DELETED")
}

// refusals are the errors that a user meets.
//
// Covers: kubectl.refusals
func refusals(s *space) {
	s.refused(`pods "nothing" not found`, "get", "pod", "nothing")
	s.run("create", "configmap", "cm")
	s.refused("already exists", "create", "configmap", "cm")
	s.refused("Invalid value", "create", "configmap", "Bad_Name")
	s.refused("the server doesn't have a resource type", "get", "nonsense")
	out, err := s.try("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c}]}\n", "apply", "-f", "-")
	if err == nil || !strings.Contains(out, "spec.containers[0].image: Required value") {
		s.t.Errorf("a pod without an image: error %v:\n%s", err, out)
	}
	out, err = s.try("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\nnonsense: 1\n", "apply", "-f", "-")
	if err == nil || !strings.Contains(out, `unknown field "nonsense"`) {
		s.t.Errorf("an unknown field: error %v:\n%s", err, out)
	}
	s.refused("is forbidden", "get", "secrets", "--as", "system:serviceaccount:default:default")
	s.run("create", "quota", "few", "--hard=configmaps=3")
	s.until(20*time.Second, "configmaps", "get", "quota", "few", "-o", "jsonpath={.status.hard}")
	s.eventually(20*time.Second, "the quota's limit", func() error {
		out, err := s.try("", "create", "configmap", "cm-"+time.Now().Format("150405.000"))
		if err != nil && strings.Contains(out, "exceeded quota: few") {
			return nil
		}
		return context.DeadlineExceeded
	})
}
