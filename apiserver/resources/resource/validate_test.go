package resource

import (
	"strings"
	"testing"

	v1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

func read[T any](t *testing.T, text string) *T {
	t.Helper()
	out := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), out); err != nil {
		t.Fatal(err)
	}
	return out
}

// check compares the errors of an object with what one of them says; nothing
// means that there are none.
func check(t *testing.T, errs field.ErrorList, want string) {
	t.Helper()
	switch {
	case want == "" && len(errs) > 0:
		t.Errorf("got %v", errs)
	case want != "" && (len(errs) == 0 || !strings.Contains(errs.ToAggregate().Error(), want)):
		t.Errorf("got %v, want %s", errs, want)
	}
}

func TestClaim(t *testing.T) {
	for _, tc := range []struct{ name, requests, rest, want string }{
		{"plain", `[{name: a, exactly: {deviceClassName: c, allocationMode: ExactCount, count: 1}}]`, "", ""},
		{"no requests", `[]`, "", ""},
		{"alternatives", `[{name: a, firstAvailable: [{name: x, deviceClassName: c, allocationMode: All}, {name: y, deviceClassName: c, allocationMode: All}]}]`, "", ""},
		{"no name", `[{exactly: {deviceClassName: c, allocationMode: All}}]`, "", "spec.devices.requests[0].name: Required value"},
		{"the same name", `[{name: a, exactly: {deviceClassName: c, allocationMode: All}}, {name: a, exactly: {deviceClassName: c, allocationMode: All}}]`, "", "spec.devices.requests[1]: Duplicate value"},
		{"no class", `[{name: a, exactly: {allocationMode: All}}]`, "", "spec.devices.requests[0].exactly.deviceClassName: Required value"},
		{"no count", `[{name: a, exactly: {deviceClassName: c, allocationMode: ExactCount}}]`, "", "spec.devices.requests[0].exactly.count: Invalid value: 0: must be greater than zero"},
		{"a count of all", `[{name: a, exactly: {deviceClassName: c, allocationMode: All, count: 2}}]`, "", "must not be specified when allocationMode is 'All'"},
		{"an unknown mode", `[{name: a, exactly: {deviceClassName: c, allocationMode: Some}}]`, "", `Unsupported value: "Some"`},
		{"an expression", `[{name: a, exactly: {deviceClassName: c, allocationMode: All, selectors: [{cel: {expression: 'device.driver == "x"'}}]}}]`, "", ""},
		{"a broken expression", `[{name: a, exactly: {deviceClassName: c, allocationMode: All, selectors: [{cel: {expression: 'device.drive'}}]}}]`, "", "spec.devices.requests[0].exactly.selectors[0].cel.expression: Invalid value: \"device.drive\": compilation failed"},
		{"an expression that is no condition", `[{name: a, exactly: {deviceClassName: c, allocationMode: All, selectors: [{cel: {expression: 'device.driver'}}]}}]`, "", "must evaluate to bool"},
		{"a toleration", `[{name: a, exactly: {deviceClassName: c, allocationMode: All, tolerations: [{operator: Exists, value: v}]}}]`, "", "must be empty for operator `Exists`"},
		{"a toleration of every key", `[{name: a, exactly: {deviceClassName: c, allocationMode: All, tolerations: [{operator: Equal, value: v}]}}]`, "", ""},
		{"a toleration for a while", `[{name: a, exactly: {deviceClassName: c, allocationMode: All, tolerations: [{operator: Exists, tolerationSeconds: 1}]}}]`, "", ""},
		{"a request of nothing", `[{name: a}]`, "", "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required"},
		{"a request of both kinds", `[{name: a, exactly: {deviceClassName: c, allocationMode: All}, firstAvailable: [{name: x, deviceClassName: c, allocationMode: All}]}]`, "", "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set"},
		{"a constraint of another request", `[{name: a, exactly: {deviceClassName: c, allocationMode: All}}]`, `, constraints: [{requests: [b], matchAttribute: x.io/y}]`, "spec.devices.constraints[0].requests[0]: Invalid value: \"b\": must be the name of a request in the claim"},
		{"a constraint of nothing", `[{name: a, exactly: {deviceClassName: c, allocationMode: All}}]`, `, constraints: [{requests: [a]}]`, "exactly one of `matchAttribute` or `distinctAttribute` is required"},
		{"parameters that are no object", `[]`, `, config: [{opaque: {driver: d.io, parameters: [1]}}]`, "spec.devices.config[0].opaque.parameters: Invalid value: \"<value omitted>\": must be a valid JSON object"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := read[v1.ResourceClaim](t, "spec: {devices: {requests: "+tc.requests+tc.rest+"}}")
			check(t, validateClaim(t.Context(), o, nil), tc.want)
			template := &v1.ResourceClaimTemplate{Spec: v1.ResourceClaimTemplateSpec{Spec: o.Spec}}
			check(t, validateTemplate(t.Context(), template, nil), strings.Replace(tc.want, "spec.devices", "spec.spec.devices", 1))
			changed := o.DeepCopy()
			changed.Spec.Devices.Requests = append(changed.Spec.Devices.Requests, v1.DeviceRequest{Name: "more"})
			check(t, validateClaim(t.Context(), changed, o), "spec: Invalid value")
			if tc.want == "" {
				check(t, validateClaim(t.Context(), o, o), "")
			}
		})
	}
}

func TestClaimStatus(t *testing.T) {
	base := `spec: {devices: {requests: [{name: a, exactly: {deviceClassName: c, allocationMode: All}}]}}
`
	const one = `devices: {results: [{request: a, driver: d.io, pool: p, device: x}]}`
	now := metav1.Now()
	for _, tc := range []struct {
		name, before, status, want string
		deleted                    bool
	}{
		{"allocated and reserved", "{}", "{allocation: {" + one + "}, reservedFor: [{resource: pods, name: p, uid: u}]}", "", false},
		{"reserved alone", "{}", "{reservedFor: [{resource: pods, name: p, uid: u}]}", "status.reservedFor: Forbidden: may not be specified when `allocated` is not set", false},
		{"another allocation", "{allocation: {" + one + "}}", "{allocation: {" + strings.Replace(one, "device: x", "device: z", 1) + "}}", "status.allocation: Invalid value", false},
		{"given back", "{allocation: {" + one + "}}", "{}", "", false},
		{"given back while reserved", "{allocation: {" + one + "}, reservedFor: [{resource: pods, name: p, uid: u}]}", "{reservedFor: [{resource: pods, name: p, uid: u}]}", "may not be specified when `allocated` is not set", false},
		{"of no request", "{}", "{allocation: {" + strings.Replace(one, "request: a", "request: b", 1) + "}}", "status.allocation.devices.results[0].request[0]: Invalid value: \"b\"", false},
		{"twice the same pod", "{allocation: {" + one + "}}", "{allocation: {" + one + "}, reservedFor: [{resource: pods, name: p, uid: u}, {resource: pods, name: p, uid: u}]}", "status.reservedFor[1]: Duplicate value", false},
		{"a consumer of a claim that ends", "{allocation: {" + one + "}}", "{allocation: {" + one + "}, reservedFor: [{resource: pods, name: p, uid: u}]}", "new entries may not be added", true},
		{"a device that is another's", "{allocation: {" + one + "}}", "{allocation: {" + one + "}, devices: [{driver: d.io, pool: p, device: z}]}", "must be an allocated device in the claim", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			old, o := read[v1.ResourceClaim](t, base+"status: "+tc.before), read[v1.ResourceClaim](t, base+"status: "+tc.status)
			if tc.deleted {
				old.DeletionTimestamp, o.DeletionTimestamp = &now, &now
			}
			check(t, validateClaimStatus(t.Context(), o, old), tc.want)
		})
	}
}

func TestSlice(t *testing.T) {
	for _, tc := range []struct{ name, spec, want string }{
		{"plain", `{driver: d.io, nodeName: n, pool: {name: p, resourceSliceCount: 1}, devices: [{name: a, attributes: {size: {int: 1}, x.io/y: {string: z}}, capacity: {memory: {value: 1Gi}}}]}`, ""},
		{"no driver", `{nodeName: n, pool: {name: p, resourceSliceCount: 1}}`, "spec.driver: Required value"},
		{"no pool", `{driver: d.io, nodeName: n, pool: {resourceSliceCount: 1}}`, "spec.pool.name: Required value"},
		{"no count", `{driver: d.io, nodeName: n, pool: {name: p}}`, "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero"},
		{"nowhere", `{driver: d.io, pool: {name: p, resourceSliceCount: 1}}`, "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"},
		{"here and everywhere", `{driver: d.io, nodeName: n, allNodes: true, pool: {name: p, resourceSliceCount: 1}}`, "but multiple fields are set"},
		{"not everywhere", `{driver: d.io, nodeName: n, allNodes: false, pool: {name: p, resourceSliceCount: 1}}`, "must be either unset or set to true"},
		{"a device twice", `{driver: d.io, nodeName: n, pool: {name: p, resourceSliceCount: 1}, devices: [{name: a}, {name: a}]}`, `spec.devices[1]: Duplicate value: "a"`},
		{"a device's name", `{driver: d.io, nodeName: n, pool: {name: p, resourceSliceCount: 1}, devices: [{name: A_b}]}`, "spec.devices[0].name: Invalid value"},
		{"an attribute's name", `{driver: d.io, nodeName: n, pool: {name: p, resourceSliceCount: 1}, devices: [{name: a, attributes: {x-y: {int: 1}}}]}`, "a valid C identifier must start with alphabetic character"},
		{"an attribute of two kinds", `{driver: d.io, nodeName: n, pool: {name: p, resourceSliceCount: 1}, devices: [{name: a, attributes: {x: {int: 1, bool: true}}}]}`, "spec.devices[0].attributes[x]"},
		{"a taint", `{driver: d.io, nodeName: n, pool: {name: p, resourceSliceCount: 1}, devices: [{name: a, taints: [{key: "a b", effect: NoSchedule}]}]}`, "spec.devices[0].taints[0].key: Invalid value"},
		{"a taint's effect", `{driver: d.io, nodeName: n, pool: {name: p, resourceSliceCount: 1}, devices: [{name: a, taints: [{key: k, effect: Maybe}]}]}`, `spec.devices[0].taints[0].effect: Unsupported value: "Maybe"`},
		{"a device's own node", `{driver: d.io, nodeName: n, pool: {name: p, resourceSliceCount: 1}, devices: [{name: a, nodeName: n}]}`, "can only be set if `perDeviceNodeSelection` is set to true"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := read[v1.ResourceSlice](t, "spec: "+tc.spec)
			check(t, validateSlice(t.Context(), o, nil), tc.want)
			if tc.want == "" {
				moved := o.DeepCopy()
				moved.Spec.Driver = "other.io"
				check(t, validateSlice(t.Context(), moved, o), "spec.driver: Invalid value: \"other.io\": field is immutable")
				check(t, validateSlice(t.Context(), o, o), "")
			}
		})
	}
}

func TestClassAndTaintRule(t *testing.T) {
	check(t, validateClass(t.Context(), read[v1.DeviceClass](t, `spec: {selectors: [{cel: {expression: "true"}}], extendedResourceName: example.com/gpu}`), nil), "")
	check(t, validateClass(t.Context(), read[v1.DeviceClass](t, `spec: {selectors: [{}]}`), nil), "spec.selectors[0].cel: Required value")
	check(t, validateClass(t.Context(), read[v1.DeviceClass](t, `spec: {extendedResourceName: gpu}`), nil), "spec.extendedResourceName: Invalid value")
	check(t, validateTaintRule(t.Context(), read[v1.DeviceTaintRule](t, `spec: {deviceSelector: {driver: d.io}, taint: {key: k, effect: NoExecute}}`), nil), "")
	check(t, validateTaintRule(t.Context(), read[v1.DeviceTaintRule](t, `spec: {taint: {effect: NoExecute}}`), nil), "spec.taint.key: Required value")
	check(t, validateTaintRule(t.Context(), read[v1.DeviceTaintRule](t, `spec: {deviceSelector: {pool: A}, taint: {key: k, effect: NoExecute}}`), nil), "spec.deviceSelector.pool: Invalid value")
}
