package builtin_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"skiff/apiserver/resources/builtin"
)

// Rows of kinds whose cells are not simply fields.
//
// Covers: api.tables
func TestRows(t *testing.T) {
	tests := map[string]struct {
		kind, object string
		// want leaves out the age, which is the last cell where ages is set.
		ages bool
		want []any
	}{
		"a definition with a version that is not served": {kind: "CustomResourceDefinition", object: `
metadata: {name: foos.ex.io, creationTimestamp: "2024-01-01T00:00:00Z"}
spec:
  group: ex.io
  scope: Namespaced
  names: {plural: foos, kind: Foo, shortNames: [fo, f]}
  versions: [{name: v1beta1, served: true}, {name: v2, served: true}, {name: v1, served: true, storage: true}, {name: v0}]
status: {conditions: [{type: Established, status: "True"}]}`,
			want: []any{"foos.ex.io", "Namespaced", "v1(storage),v1beta1,v2", "2024-01-01T00:00:00Z", "ex.io", "Foo", "fo,f", true}},
		"an address of an object of a group without namespace": {kind: "IPAddress", object: `
metadata: {name: 10.96.0.7}
spec: {parentRef: {group: ex.io, resource: foos, name: a}}`,
			want: []any{"10.96.0.7", "foos.ex.io/a"}},
		"an address of a Service": {kind: "IPAddress", object: `
metadata: {name: 10.96.0.7}
spec: {parentRef: {resource: services, namespace: ns, name: a}}`,
			want: []any{"10.96.0.7", "services/ns/a"}},
		"an account with secrets": {kind: "ServiceAccount", ages: true, object: `
metadata: {name: a}
secrets: [{name: x}]`,
			want: []any{"a"}},
		"an ingress of many hosts": {kind: "Ingress", ages: true, object: `
metadata: {name: a}
spec: {rules: [{host: h0.io}, {host: h1.io}, {host: h2.io}, {host: h3.io}, {host: h4.io}], tls: [{}]}`,
			want: []any{"a", "<none>", "h0.io,h1.io,h2.io + 2 more...", "", "80, 443"}},
		"a level with queues": {kind: "PriorityLevelConfiguration", ages: true, object: `
metadata: {name: a}
spec: {type: Limited, limited: {nominalConcurrencyShares: 5, limitResponse: {type: Queue, queuing: {queues: 9, handSize: 3, queueLengthLimit: 7}}}}`,
			want: []any{"a", "Limited", int64(5), int64(9), int64(3), int64(7)}},
		"a migration that ended": {kind: "StorageVersionMigration", object: `
metadata: {name: a}
spec: {resource: {group: apps, resource: deployments}}
status: {conditions: [{type: Running, status: "False"}, {type: Succeeded, status: "True"}]}`,
			want: []any{"a", "deployments.apps", "Succeeded"}},
		"a migration that nobody has looked at": {kind: "StorageVersionMigration", object: `
metadata: {name: a}
spec: {resource: {resource: secrets}}`,
			want: []any{"a", "secrets", "Unknown"}},
		"a taint rule": {kind: "DeviceTaintRule", ages: true, object: `
metadata: {name: a}
spec: {taint: {key: k, effect: NoSchedule}}`,
			want: []any{"a", "k", "", "NoSchedule", ""}},
		"a request for a pod's certificate": {kind: "PodCertificateRequest", object: `
metadata: {name: a}
spec: {podName: p, serviceAccountName: s, nodeName: n1, signerName: a.io/b, unverifiedUserAnnotations: {a.io/x: v, a.io/a: z}}
status: {conditions: [{type: Denied, status: "True"}]}`,
			want: []any{"a", "p", "s", "n1", "a.io/b", "Denied", "a.io/a=z,a.io/x=v"}},
		"pools that were counted": {kind: "ResourcePoolStatusRequest", object: `
metadata: {name: a}
spec: {driver: d.io}
status:
  poolCount: 2
  conditions: [{type: Complete, status: "True"}]
  pools: [{totalDevices: 3, allocatedDevices: 1, availableDevices: 2}, {totalDevices: 4, unavailableDevices: 1, validationError: x}]`,
			want: []any{"a", "d.io", "7", "2", "1", "1", "1", int64(2), "Complete", "<unknown>"}},
		"pools that nobody has counted": {kind: "ResourcePoolStatusRequest", object: `
metadata: {name: a}
spec: {driver: d.io}`,
			want: []any{"a", "d.io", "-", "-", "-", "-", "-", int64(0), "Pending", "<none>"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for _, r := range builtin.Resources() {
				if r.Kind != tt.kind {
					continue
				}
				for _, v := range r.Versions {
					if v.ToHub != nil {
						continue
					}
					obj := v.New()
					if err := yaml.UnmarshalStrict([]byte(tt.object), obj); err != nil {
						t.Fatal(err)
					}
					got := r.Row(obj)
					if len(got) != len(r.Columns) {
						t.Errorf("%d cells in %d columns", len(got), len(r.Columns))
					}
					if tt.ages {
						got = got[:len(got)-1]
					}
					if diff := cmp.Diff(tt.want, got); diff != "" {
						t.Error(diff)
					}
				}
			}
		})
	}
}
