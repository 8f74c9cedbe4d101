package tainteviction

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

func TestPatience(t *testing.T) {
	taint := func(key string) v1.Taint { return v1.Taint{Key: key, Effect: v1.TaintEffectNoExecute} }
	tolerate := func(key string, seconds *int64) v1.Toleration {
		return v1.Toleration{Key: key, Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoExecute, TolerationSeconds: seconds}
	}
	for name, tc := range map[string]struct {
		taints      []v1.Taint
		tolerations []v1.Toleration
		want        time.Duration
		bounded     bool
	}{
		"no taint":        {nil, nil, 0, false},
		"not tolerated":   {[]v1.Taint{taint("a")}, nil, 0, true},
		"for ever":        {[]v1.Taint{taint("a")}, []v1.Toleration{tolerate("a", nil)}, 0, false},
		"for a while":     {[]v1.Taint{taint("a")}, []v1.Toleration{tolerate("a", ptr.To[int64](30))}, 30 * time.Second, true},
		"shortest counts": {[]v1.Taint{taint("a"), taint("b")}, []v1.Toleration{tolerate("a", ptr.To[int64](30)), tolerate("b", ptr.To[int64](5))}, 5 * time.Second, true},
		"one is missing":  {[]v1.Taint{taint("a"), taint("b")}, []v1.Toleration{tolerate("a", nil)}, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			if d, bounded := Patience(tc.taints, tc.tolerations); d != tc.want || bounded != tc.bounded {
				t.Errorf("%v %v, want %v %v", d, bounded, tc.want, tc.bounded)
			}
		})
	}
}
