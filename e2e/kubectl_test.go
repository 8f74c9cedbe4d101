package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// space is a namespace of one case, and kubectl in it.
type space struct {
	*cluster
	t    *testing.T
	name string
}

// space makes a namespace that lives as long as the case.
func (c *cluster) space(t *testing.T, name string) *space {
	t.Helper()
	s := &space{cluster: c, t: t, name: name}
	s.run("create", "namespace", name)
	t.Cleanup(func() {
		if t.Failed() {
			s.explain()
		}
		if out, err := s.try("", "delete", "namespace", name, "--wait=false"); err != nil {
			t.Errorf("delete the namespace: %v: %s", err, out)
		}
	})
	return s
}

// try runs kubectl and returns what it wrote to both outputs.
func (s *space) try(stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := s.command(ctx, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// command is kubectl in the namespace.
func (s *space) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "kubectl", append([]string{"--namespace", s.name}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.Kubeconfig, "HOME="+s.Root)
	cmd.WaitDelay = time.Second
	return cmd
}

// stream runs kubectl and gives the lines that it prints until stop ends it.
func (s *space) stream(limit time.Duration, args ...string) (lines *bufio.Scanner, stop func()) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	cmd := s.command(ctx, args...)
	pipe, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		s.t.Fatal(err)
	}
	return bufio.NewScanner(pipe), func() {
		cancel()
		_ = cmd.Wait() // it was killed
	}
}

// run runs kubectl, which must succeed.
func (s *space) run(args ...string) string {
	s.t.Helper()
	out, err := s.try("", args...)
	if err != nil {
		s.t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// refused runs kubectl, which must fail and say text.
func (s *space) refused(text string, args ...string) {
	s.t.Helper()
	out, err := s.try("", args...)
	if err == nil || !strings.Contains(out, text) {
		s.t.Errorf("kubectl %s: error %v, want one that says %q:\n%s", strings.Join(args, " "), err, text, out)
	}
}

// apply applies a manifest.
func (s *space) apply(manifest string) string {
	s.t.Helper()
	out, err := s.try(manifest, "apply", "-f", "-")
	if err != nil {
		s.t.Fatalf("kubectl apply: %v\n%s", err, out)
	}
	return out
}

// field reads one field of an object by its JSON path.
func (s *space) field(object, path string) string {
	s.t.Helper()
	return s.run("get", object, "-o", "jsonpath={"+path+"}")
}

// says runs kubectl, whose output must contain every text.
func (s *space) says(texts []string, args ...string) {
	s.t.Helper()
	out := s.run(args...)
	for _, text := range texts {
		if !strings.Contains(out, text) {
			s.t.Errorf("kubectl %s: want %q in:\n%s", strings.Join(args, " "), text, out)
		}
	}
}

// eventually asks until check is content.
func (s *space) eventually(limit time.Duration, what string, check func() error) {
	s.t.Helper()
	end := time.After(limit)
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-end:
			s.t.Fatalf("%s: not within %v: %v", what, limit, err)
		case <-tick.C:
		}
	}
}

// until runs kubectl until its output contains text.
func (s *space) until(limit time.Duration, text string, args ...string) {
	s.t.Helper()
	s.eventually(limit, "kubectl "+strings.Join(args, " "), func() error {
		out, err := s.try("", args...)
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if !strings.Contains(out, text) {
			return fmt.Errorf("want %q in:\n%s", text, out)
		}
		return nil
	})
}

// gone waits until an object is away.
func (s *space) gone(limit time.Duration, object string) {
	s.t.Helper()
	s.eventually(limit, object+" gone", func() error {
		out, err := s.try("", "get", object, "--ignore-not-found", "-o", "name")
		if err != nil {
			return err
		}
		if strings.TrimSpace(out) != "" {
			return errors.New("it is still there")
		}
		return nil
	})
}

// explain logs what a person would look at after a failure.
func (s *space) explain() {
	for _, args := range [][]string{
		{"get", "all,endpointslices,pvc", "-o", "wide"}, {"describe", "pods"}, {"get", "events", "--sort-by=.lastTimestamp"},
	} {
		out, err := s.try("", args...)
		s.t.Logf("kubectl %s (%v):\n%s", strings.Join(args, " "), err, out)
	}
	s.t.Log(s.LogTail(40))
}
