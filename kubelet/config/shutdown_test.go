package config

import (
	"strings"
	"testing"
)

func TestShutdownTimesThatDoNotFitAreRefused(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"both ways", "shutdownGracePeriod: 30s\nshutdownGracePeriodByPodPriority: [{priority: 0, shutdownGracePeriodSeconds: 10}]", "Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at the same time"},
		{"less than a second", "shutdownGracePeriod: 500ms", "must be either zero or otherwise >= 1 sec"},
		{"more for critical pods than for all", "shutdownGracePeriod: 10s\nshutdownGracePeriodCriticalPods: 20s", "shutdownGracePeriodCriticalPods 20s must be <= shutdownGracePeriod 10s"},
		{"fits", "shutdownGracePeriod: 30s\nshutdownGracePeriodCriticalPods: 10s", ""},
		{"by priority", "shutdownGracePeriodByPodPriority: [{priority: 0, shutdownGracePeriodSeconds: 10}]", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse([]byte(c.file))
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
