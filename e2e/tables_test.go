package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"skiff/testdata/images/reach"
)

// TestTables is a cluster of two nodes and both address families, where tables say
// who reaches whom.
func TestTables(t *testing.T) {
	c := prepare(t)
	if err := c.Configure(`apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
networking: {podSubnet: "10.244.0.0/16,fd00:244::/56", serviceSubnet: "10.96.0.0/16,fd00:96::/112"}
`); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.remove(t) })
	c.up(t)
	if c.Nodes < 2 {
		t.Skip("want two nodes")
	}
	t.Run("policies", func(t *testing.T) { policyTable(c.space(t, "e2e-policies")) })
	t.Run("services", func(t *testing.T) { serviceTable(c.space(t, "e2e-services")) })
}

// patience is how long an asker waits for each answer: what is refused costs all of it.
const patience = 500 * time.Millisecond

// asker asks from one place for as long as a test runs.
type asker interface {
	ask(targets []string) ([]string, error)
}

// outside asks from the machine, which is no node.
type outside struct{ ctx context.Context }

func (o outside) ask(targets []string) ([]string, error) {
	return reach.All(o.ctx, targets, patience), nil
}

// inside asks from a pod, over one stream of kubectl exec.
type inside struct {
	in  io.Writer
	out *bufio.Reader
}

func (s *space) inside(namespace, pod string) inside {
	s.t.Helper()
	cmd := s.command(s.t.Context(), "exec", "--namespace", namespace, "-i", pod, "--", "/probe", "reach", patience.String())
	in, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait() // its namespace may be gone
	})
	return inside{in: in, out: bufio.NewReader(out)}
}

func (i inside) ask(targets []string) ([]string, error) {
	if _, err := fmt.Fprintln(i.in, strings.Join(targets, " ")); err != nil {
		return nil, err
	}
	line, err := i.out.ReadString('\n')
	if err != nil {
		return nil, err
	}
	answers := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
	if len(answers) != len(targets) {
		return nil, fmt.Errorf("%d answers to %d questions: %q", len(answers), len(targets), line)
	}
	return answers, nil
}

// question is one cell of a table: who is to answer, of several any.
type question struct {
	from, target string
	want         []string
	// sees is the client's address as who answers sees it; empty for any.
	sees string
}

func (q question) judge(answer string) string {
	who, saw, _ := strings.Cut(answer, " ")
	for _, w := range q.want {
		if w == who && (q.sees == "" || who == reach.Nobody || q.sees == saw) {
			return ""
		}
	}
	return fmt.Sprintf("%s asks %s: %q, want %v seeing %q", q.from, q.target, answer, q.want, q.sees)
}

// holds asks all questions at once, and those again whose answer was not right:
// rules come a moment after what they follow from.
func (s *space) holds(what string, askers map[string]asker, questions []question) {
	s.t.Helper()
	all, began := len(questions), time.Now()
	var wrong []string
	for end := time.Now().Add(20 * time.Second); ; {
		var left []question
		wrong = nil
		byAsker := make(map[string][]question)
		for _, q := range questions {
			byAsker[q.from] = append(byAsker[q.from], q)
		}
		type reply struct {
			from    string
			answers []string
			err     error
		}
		replies := make(chan reply)
		for from, qs := range byAsker {
			targets := make([]string, len(qs))
			for i, q := range qs {
				targets[i] = q.target
			}
			go func() {
				answers, err := askers[from].ask(targets)
				replies <- reply{from, answers, err}
			}()
		}
		for range byAsker {
			r := <-replies
			if r.err != nil {
				s.t.Fatalf("%s: %s: %v", what, r.from, r.err)
			}
			for i, q := range byAsker[r.from] {
				if problem := q.judge(r.answers[i]); problem != "" {
					left, wrong = append(left, q), append(wrong, problem)
				}
			}
		}
		if questions = left; len(left) == 0 || time.Now().After(end) {
			break
		}
	}
	s.t.Logf("%s: %d answers, %d wrong, after %v", what, all, len(wrong), time.Since(began).Round(time.Millisecond))
	if len(wrong) > 0 {
		s.t.Errorf("%s: %d of %d:\n%s", what, len(wrong), all, strings.Join(wrong[:min(len(wrong), 20)], "\n"))
	}
}
