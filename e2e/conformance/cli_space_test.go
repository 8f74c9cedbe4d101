package conformance

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// kubectlCommand is kubectl in the test's namespace.
func (s *space) kubectlCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "kubectl", append([]string{"--namespace", s.name}, args...)...)
	// A home of the test's own: kubectl keeps what it discovered there.
	cmd.Env = append(os.Environ(), "KUBECONFIG="+shared.Kubeconfig, "HOME="+filepath.Join(shared.Root, "home-"+s.name))
	cmd.WaitDelay = time.Second
	return cmd
}

// kubectl runs kubectl and returns what it wrote to both outputs.
func (s *space) kubectl(stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(s.ctx, 2*time.Minute)
	defer cancel()
	cmd := s.kubectlCommand(ctx, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// mustKubectl runs kubectl, which must succeed.
func (s *space) mustKubectl(stdin string, args ...string) string {
	s.t.Helper()
	out, err := s.kubectl(stdin, args...)
	if err != nil {
		s.t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// says runs kubectl and looks for every text in its output.
func (s *space) says(stdin string, args []string, texts ...string) string {
	s.t.Helper()
	out := s.mustKubectl(stdin, args...)
	for _, text := range texts {
		if !strings.Contains(out, text) {
			s.t.Errorf("kubectl %s does not say %q:\n%s", strings.Join(args, " "), text, out)
		}
	}
	return out
}

// refuses runs kubectl, which must fail and say every text.
func (s *space) refuses(stdin string, args []string, texts ...string) {
	s.t.Helper()
	out, err := s.kubectl(stdin, args...)
	if err == nil {
		s.t.Errorf("kubectl %s succeeded:\n%s", strings.Join(args, " "), out)
	}
	for _, text := range texts {
		if !strings.Contains(out, text) {
			s.t.Errorf("kubectl %s does not say %q:\n%s", strings.Join(args, " "), text, out)
		}
	}
}
