package controllers

import (
	"strings"
	"testing"

	"k8s.io/client-go/rest"
)

func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range list() {
		for _, n := range []string{e.name, e.alias} {
			if n == "" || seen[n] {
				t.Errorf("name %q of %s is empty or taken", n, e.name)
			}
			seen[n] = true
		}
		if e.build == nil || e.source == "" {
			t.Errorf("%s has no build function or event source", e.name)
		}
	}
}

func TestChoice(t *testing.T) {
	access := func(string) *rest.Config { return &rest.Config{Host: "http://localhost:1"} }
	for name, tc := range map[string]struct {
		names []string
		has   string
		lacks string
	}{
		"default":  {nil, "deployment-controller", "node-ipam-controller"},
		"one off":  {[]string{"*", "-deployment"}, "job-controller", "deployment-controller"},
		"only one": {[]string{"job-controller"}, "job-controller", "deployment-controller"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := New(Config{RESTFor: access, Controllers: tc.names})
			if err != nil {
				t.Fatal(err)
			}
			all := " " + strings.Join(m.Names(), " ") + " "
			if !strings.Contains(all, " "+tc.has+" ") || strings.Contains(all, " "+tc.lacks+" ") {
				t.Errorf("chosen:%s", all)
			}
		})
	}
	if _, err := New(Config{RESTFor: access, Controllers: []string{"nobody"}}); err == nil || !strings.Contains(err.Error(), `"nobody" is not in the list of known controllers`) {
		t.Errorf("error %v", err)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("a configuration without access was accepted")
	}
}
