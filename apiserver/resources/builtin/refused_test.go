package builtin_test

import (
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"skiff/apiserver/resources/builtin"
)

// What upstream refuses, or accepts, and a comparison with it found otherwise.
//
// Covers: api.validation
func TestRefused(t *testing.T) {
	tests := map[string]struct {
		kind, object string
		want         []string // the fields that are refused
	}{
		"an address of a path":             {"IPAddress", `{metadata: {name: 10.96.0.7}, spec: {parentRef: {group: A, resource: a/b, namespace: .., name: a/b}}}`, []string{"spec.parentRef.group", "spec.parentRef.name", "spec.parentRef.namespace", "spec.parentRef.resource"}},
		"parameters of no namespace":       {"IngressClass", `{spec: {controller: a.io/b, parameters: {kind: K, name: n, scope: Namespace, namespace: a.b}}}`, []string{"spec.parameters.namespace"}},
		"a range of ports that never ends": {"NetworkPolicy", `{spec: {podSelector: {}, ingress: [{ports: [{protocol: TCP, port: 80, endPort: 65536}]}]}}`, []string{"spec.ingress[0].ports[0].endPort"}},
		"a provisioner that is no name":    {"StorageClass", `{provisioner: $(A), reclaimPolicy: Delete, volumeBindingMode: Immediate}`, []string{"provisioner"}},
		"a provisioner in capitals":        {"StorageClass", `{provisioner: Ex.IO/A, reclaimPolicy: Delete, volumeBindingMode: Immediate}`, nil},
		"an account that none can have":    {"ClusterRoleBinding", `{roleRef: {kind: ClusterRole, name: x, apiGroup: rbac.authorization.k8s.io}, subjects: [{kind: ServiceAccount, name: A/b, namespace: n}]}`, []string{"subjects[0].name"}},
		"a user of any name":               {"ClusterRoleBinding", `{roleRef: {kind: ClusterRole, name: x, apiGroup: rbac.authorization.k8s.io}, subjects: [{kind: User, name: A/b, apiGroup: rbac.authorization.k8s.io}]}`, nil},
		"a level that none can be":         {"FlowSchema", `{metadata: {name: a}, spec: {matchingPrecedence: 7, priorityLevelConfiguration: {name: a/b}}}`, []string{"spec.priorityLevelConfiguration.name"}},
		"a lease of no time":               {"Lease", `{spec: {leaseDurationSeconds: 0}}`, []string{"spec.leaseDurationSeconds"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for _, r := range builtin.Resources() {
				if r.Kind != tt.kind {
					continue
				}
				obj := r.Versions[0].New()
				if err := yaml.UnmarshalStrict([]byte(tt.object), obj); err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, err := range r.Strategy.Validate(t.Context(), obj) {
					if err.Type != field.ErrorTypeInternal && !slices.Contains(got, err.Field) {
						got = append(got, err.Field)
					}
				}
				slices.Sort(got)
				if !slices.Equal(got, tt.want) {
					t.Errorf("refused %v, want %v", got, tt.want)
				}
			}
		})
	}
}
