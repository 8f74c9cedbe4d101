package shutdown

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
	"k8s.io/utils/ptr"
)

func TestPodsAreSharedOutByPriority(t *testing.T) {
	pods := []*v1.Pod{
		named("none", nil), named("negative", ptr.To[int32](-5)), named("zero", ptr.To[int32](0)), named("some", ptr.To[int32](1000)),
		named("critical", ptr.To[int32](2_000_000_000)), named("node critical", ptr.To[int32](2_000_001_000)),
	}
	seconds := func(n int) metav1.Duration { return metav1.Duration{Duration: time.Duration(n) * time.Second} }
	for _, c := range []struct {
		name   string
		config kubeletv1beta1.KubeletConfiguration
		times  []time.Duration
		want   [][]string
	}{
		{name: "no time is given"},
		{
			name:   "critical pods last",
			config: kubeletv1beta1.KubeletConfiguration{ShutdownGracePeriod: seconds(30), ShutdownGracePeriodCriticalPods: seconds(10)},
			times:  []time.Duration{20 * time.Second, 10 * time.Second},
			want:   [][]string{{"none", "negative", "zero", "some"}, {"critical", "node critical"}},
		},
		{
			name: "by priority, in any order",
			config: kubeletv1beta1.KubeletConfiguration{ShutdownGracePeriodByPodPriority: []kubeletv1beta1.ShutdownGracePeriodByPodPriority{
				{Priority: 2_000_000_000, ShutdownGracePeriodSeconds: 5}, {Priority: 100, ShutdownGracePeriodSeconds: 7}, {Priority: 1000, ShutdownGracePeriodSeconds: 0},
			}},
			times: []time.Duration{7 * time.Second, 0, 5 * time.Second},
			want:  [][]string{{"none", "negative", "zero"}, {"some"}, {"critical", "node critical"}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			groups := Groups(&c.config)
			var times []time.Duration
			for _, g := range groups {
				times = append(times, g.Time)
			}
			if diff := cmp.Diff(c.times, times); diff != "" {
				t.Errorf("times: %s", diff)
			}
			var got [][]string
			for _, in := range Of(groups, pods) {
				var names []string
				for _, p := range in {
					names = append(names, p.Name)
				}
				got = append(got, names)
			}
			if diff := cmp.Diff(c.want, got); diff != "" && len(groups) > 0 {
				t.Errorf("groups: %s", diff)
			}
		})
	}
}

func TestGraceIsThePodsOwnWhereThatIsLess(t *testing.T) {
	g := Group{Time: 20 * time.Second}
	for _, c := range []struct {
		name string
		own  *int64
		want int64
	}{{"none", nil, 20}, {"less", ptr.To[int64](5), 5}, {"more", ptr.To[int64](60), 20}} {
		t.Run(c.name, func(t *testing.T) {
			p := named("p", nil)
			p.Spec.TerminationGracePeriodSeconds = c.own
			if got := Grace(g, p); got != c.want {
				t.Errorf("%d seconds, want %d", got, c.want)
			}
		})
	}
}

func named(name string, priority *int32) *v1.Pod {
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1.PodSpec{Priority: priority}}
}
