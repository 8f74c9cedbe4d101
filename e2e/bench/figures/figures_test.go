package figures

import (
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

func TestPercentile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	for _, c := range []struct {
		name   string
		sorted []time.Duration
		p      int
		want   time.Duration
	}{
		{"none", nil, 50, 0},
		{"one", []time.Duration{7}, 99, 7},
		{"middle of three", []time.Duration{1, 2, 3}, 50, 2},
		{"half of a hundred", hundred, 50, 50},
		{"99 of a hundred", hundred, 99, 99},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Percentile(c.sorted, c.p); got != c.want {
				t.Errorf("percentile %d is %d, want %d", c.p, got, c.want)
			}
		})
	}
}

func TestProcess(t *testing.T) {
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = child.Process.Kill() // it runs until then
		_ = child.Wait()
	})
	if tree := Tree(os.Getpid()); !slices.Contains(tree, child.Process.Pid) || tree[0] != os.Getpid() {
		t.Errorf("the processes are %v, want %d and its child %d", tree, os.Getpid(), child.Process.Pid)
	}
	deadline := time.Now().Add(20 * time.Second)
	for used := time.Duration(0); used == 0; { // work until it shows
		var err error
		if used, err = CPU(os.Getpid()); err != nil || time.Now().After(deadline) {
			t.Fatal(used, err)
		}
	}
	if rss, anon, err := Memory(os.Getpid()); err != nil || anon <= 0 || rss < anon {
		t.Errorf("memory %v, %v, %v", rss, anon, err)
	}
	if err := ForgetPeak(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	before, err := Peak(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	touched := make([]byte, 64<<20)
	for i := range touched {
		touched[i] = 1
	}
	if peak, err := Peak(os.Getpid()); err != nil || peak < before+32 {
		t.Errorf("the peak is %v MiB (%v) after 64 more than %v", peak, err, before)
	}
	if _, err := CPU(-1); err == nil {
		t.Error("a process that is not there has used time")
	}
}
