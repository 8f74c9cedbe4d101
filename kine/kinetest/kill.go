package kinetest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"skiff/kine"
)

// killEnv tells the test binary that it is the child of Kill.
const killEnv = "SKIFF_KINETEST_KILL"

// Kill checks that a process which is killed in the middle of its writes loses
// none that it acknowledged. The test must be a top level one: it runs again in
// a child process, where open makes the store that writes. env is handed to the
// child, so that open finds the same data there.
func Kill(t *testing.T, env []string, open func(t *testing.T) kine.Runner) {
	if os.Getenv(killEnv) != "" {
		writeForever(t, open(t))
		return
	}
	KillChild(t, t.Name(), env, open)
}

// KillChild is Kill with the child's part in another top level test, child,
// which calls Kill.
func KillChild(t *testing.T, child string, env []string, open func(t *testing.T) kine.Runner) {
	acked := map[string]int64{}
	for round := range 3 {
		killOnce(t, child, env, round, acked)
		s := open(t)
		stop := Start(t, s)
		ctx := testContext(t)
		res := must[kine.ReadResult](t)(s.List(ctx, kine.PrefixRange("/kill/"), kine.ReadOptions{}))
		have := map[string]int64{}
		for _, kv := range res.KVs {
			have[kv.Key] = kv.ModRevision
		}
		for key, rev := range acked {
			if have[key] != rev {
				t.Fatalf("round %d: %s was acknowledged at revision %d; the store has it at %d", round, key, rev, have[key])
			}
		}
		w := must[kine.Watcher](t)(s.Watch(ctx, kine.PrefixRange("/kill/"), kine.WatchOptions{Revision: 2}))
		last := int64(0)
		for _, e := range take(t, w, len(res.KVs)) {
			if e.KV.ModRevision <= last || have[e.KV.Key] != e.KV.ModRevision {
				t.Fatalf("round %d: event of %s at %d after %d", round, e.KV.Key, e.KV.ModRevision, last)
			}
			last = e.KV.ModRevision
		}
		stop()
	}
}

// killOnce starts the child, reads some acknowledgements, and kills it.
func killOnce(t *testing.T, child string, env []string, round int, acked map[string]int64) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+child+"$", "-test.count=1")
	cmd.Env = append(append(os.Environ(), env...), fmt.Sprintf("%s=%d", killEnv, round+1))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n := 0
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var key string
		var rev int64
		if _, err := fmt.Sscanf(lines.Text(), "acked %s %d", &key, &rev); err != nil {
			if !strings.HasPrefix(lines.Text(), "acked") {
				t.Log("child:", lines.Text())
			}
			continue
		}
		acked[key] = rev
		if n++; n == 300 {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); n < 300 {
		t.Fatalf("the child ended after %d writes: %v", n, err)
	}
}

// writeForever puts keys and says so, until it is killed.
func writeForever(t *testing.T, s kine.Runner) {
	Start(t, s)
	round := os.Getenv(killEnv)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for client := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("/kill/%s/%d/%d", round, client, i)
				rev, err := s.Create(context.Background(), key, []byte(strings.Repeat("x", 500)), 0)
				if err != nil {
					fmt.Println("failed", err)
					return
				}
				mu.Lock()
				fmt.Println("acked", key, rev)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}
