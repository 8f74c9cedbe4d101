package resource

import (
	"testing"

	v1 "k8s.io/api/resource/v1"
)

func TestDevice(t *testing.T) {
	for _, tc := range []struct{ name, device, want string }{
		{"a policy of values", `allowMultipleAllocations: true, capacity: {m: {value: 10, requestPolicy: {default: 1, validValues: [1, 2]}}}`, ""},
		{"a policy of a range", `allowMultipleAllocations: true, capacity: {m: {value: 10, requestPolicy: {default: 2, validRange: {min: 2, max: 6, step: 2}}}}`, ""},
		{"a policy of a device for one", `capacity: {m: {value: 10, requestPolicy: {default: 1, validValues: [1]}}}`, "capacity[m].requestPolicy: Forbidden: allowMultipleAllocations must be true"},
		{"values without default", `allowMultipleAllocations: true, capacity: {m: {value: 10, requestPolicy: {validValues: [1]}}}`, "requestPolicy.default: Required value: required when validValues is defined"},
		{"values out of order", `allowMultipleAllocations: true, capacity: {m: {value: 10, requestPolicy: {default: 1, validValues: [2, 1]}}}`, "validValues[1]: Invalid value: \"1\": values must be sorted in ascending order"},
		{"a default of no value", `allowMultipleAllocations: true, capacity: {m: {value: 10, requestPolicy: {default: 3, validValues: [1, 2]}}}`, "default value is not valid according to the requestPolicy"},
		{"a value above all there is", `allowMultipleAllocations: true, capacity: {m: {value: 10, requestPolicy: {default: 1, validValues: [1, 20]}}}`, "option is larger than capacity value: 10"},
		{"a range without least", `allowMultipleAllocations: true, capacity: {m: {value: 10, requestPolicy: {default: 1, validRange: {max: 2}}}}`, "validRange.min: Required value"},
		{"a range of broken steps", `allowMultipleAllocations: true, capacity: {m: {value: 10, requestPolicy: {default: 1, validRange: {min: 1, max: 4, step: 2}}}}`, "value is not a multiple of a given step (2) from (1)"},
		{"a step of nothing", `allowMultipleAllocations: true, capacity: {m: {value: 10, requestPolicy: {default: 1, validRange: {min: 1, step: 0}}}}`, "step: Invalid value: \"0\": must be greater than zero"},
		{"both policies", `allowMultipleAllocations: true, capacity: {m: {value: 10, requestPolicy: {default: 1, validValues: [1], validRange: {min: 1}}}}`, "exactly one policy can be specified"},
		{"a version", `attributes: {v: {version: 1.2.3-rc.1+b.7}}`, ""},
		{"no version", `attributes: {v: {version: "1.2"}}`, "attributes[v].version: Invalid value: \"1.2\": must be a string compatible with semver.org spec 2.0.0"},
		{"a version of leading zeros", `attributes: {v: {version: 01.2.3}}`, "must be a string compatible"},
		{"a name of three parts", `attributes: {a/b/c: {int: 1}}`, ""},
		{"a name in capitals", `attributes: {X.io/y: {int: 1}}`, ""},
		{"a name of no domain", `attributes: {/y: {int: 1}}`, "attributes: Invalid value: \"\": the domain must not be empty"},
		{"conditions", `bindingConditions: [a.io/x], bindingFailureConditions: [a.io/y]`, ""},
		{"conditions of success alone", `bindingConditions: [x]`, "bindingFailureConditions are required to use bindingConditions"},
		{"conditions of failure alone", `bindingFailureConditions: [x]`, "bindingConditions are required to use bindingFailureConditions"},
		{"a condition of both", `bindingConditions: [x], bindingFailureConditions: [x]`, "bindingFailureConditions must not overlap with bindingConditions"},
		{"a condition twice", `bindingConditions: [x, x], bindingFailureConditions: [y]`, "bindingConditions[1]: Duplicate value: \"x\""},
		{"a condition's name", `bindingConditions: ["a b"], bindingFailureConditions: [y]`, "bindingConditions[0]: Invalid value: \"a b\""},
		{"counters below zero", `consumesCounters: [{counterSet: s, counters: {c: {value: -1}}}]`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := read[v1.ResourceSlice](t, `spec: {driver: d.io, nodeName: n, pool: {name: p, resourceSliceCount: 1}, devices: [{name: a, `+tc.device+`}]}`)
			check(t, validateSlice(t.Context(), o, nil), tc.want)
		})
	}
}

func TestSliceBounds(t *testing.T) {
	o := read[v1.ResourceSlice](t, `spec: {driver: d.io, nodeName: n, pool: {name: p, resourceSliceCount: 1}, devices: [{name: a}]}`)
	for range v1.DeviceTaintsMaxLength + 1 {
		o.Spec.Devices[0].Taints = append(o.Spec.Devices[0].Taints, v1.DeviceTaint{Key: "k", Effect: v1.DeviceTaintEffectNoSchedule})
	}
	check(t, validateSlice(t.Context(), o, nil), "spec.devices[0].taints: Too many: 17: must have at most 16 items")
	check(t, validateSlice(t.Context(), o, o), "")

	o = read[v1.ResourceSlice](t, `spec: {driver: d.io, nodeName: n, pool: {name: p, resourceSliceCount: 1}, devices: [{name: a}], sharedCounters: [{name: s, counters: {c: {value: 1}}}]}`)
	check(t, validateSlice(t.Context(), o, nil), "only one of `sharedCounters` or `devices` is allowed")

	o = read[v1.ResourceSlice](t, `spec: {driver: d.io, nodeName: n, pool: {name: p, resourceSliceCount: 1}, skipNodeOperations: [NodePrepareResources]}`)
	check(t, validateSlice(t.Context(), o, nil), "NodePrepareResources cannot be skipped unless NodeUnprepareResources is also skipped")
}
