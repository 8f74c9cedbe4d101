package cri_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/version"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A container cannot be started in a folder of the host by way of a descriptor that
// its runtime holds open, and is left none (CVE-2024-21626).
//
// Covers: node.containers
func TestNoDescriptorLeadsToTheHost(t *testing.T) {
	n := newNode(t)
	n.pull()
	sb, scfg := n.pod("escape")
	for fd := 3; fd < 20; fd++ {
		for _, dir := range []string{"/proc/self/fd/%d", "/proc/self/fd/%d/../../.."} {
			id, err := n.create(sb, scfg, fmt.Sprintf("c%d-%d", fd, len(dir)), []string{"stubborn"}, func(c *runtimeapi.ContainerConfig) { c.WorkingDir = fmt.Sprintf(dir, fd) })
			if err == nil {
				if err = n.StartContainer(t.Context(), id); err == nil {
					t.Errorf("a container was started in %s", fmt.Sprintf(dir, fd))
				}
			}
			if id != "" {
				if err := n.RemoveContainer(t.Context(), id); err != nil {
					t.Error(err)
				}
			}
		}
	}
	id := n.run(sb, scfg, "main", []string{"stubborn"})
	for fd := 3; fd < 20; fd++ {
		out, _, err := n.ExecSync(t.Context(), id, []string{"/probe", "cat", fmt.Sprintf("/proc/1/fd/%d/etc/hostname", fd)}, 10*time.Second)
		if err == nil {
			t.Errorf("descriptor %d leads to %q", fd, out)
		}
	}
}

// The library that mounts what containers see is one in which the ways to redirect it
// are closed: exchanged links (CVE-2021-30465), masked paths and /dev/console
// (CVE-2025-31133, CVE-2025-52565), writes to procfs (CVE-2025-52881), and the
// older ones of its class (CVE-2019-19921, CVE-2021-43784, CVE-2022-29162,
// CVE-2023-25809, CVE-2023-27561, CVE-2023-28642).
func TestRuntimeLibraryIsPatched(t *testing.T) {
	text, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for module, least := range map[string]string{"github.com/opencontainers/runc": "v1.4.0-rc.3", "github.com/opencontainers/selinux": "v1.13.0"} {
		m := regexp.MustCompile(`(?m)^\t` + regexp.QuoteMeta(module) + ` (v\S+)`).FindStringSubmatch(string(text))
		if m == nil {
			t.Errorf("%s is not required", module)
			continue
		}
		got, want := version.MustParseSemantic(m[1]), version.MustParseSemantic(least)
		if got.LessThan(want) {
			t.Errorf("%s is %s, want %s or later", module, got, want)
		}
	}
	if strings.Contains(string(text), "replace github.com/opencontainers") {
		t.Error("it is replaced by another")
	}
}
