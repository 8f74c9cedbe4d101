package etcdserver_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// etcdctl does with the face what it does with an etcd.
//
// Covers: store.etcd-face
func TestEtcdctl(t *testing.T) {
	path, err := exec.LookPath("etcdctl")
	if err != nil {
		t.Skip("no etcdctl is installed")
	}
	url := serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ctl := func(stdin string, args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, path, append([]string{"--endpoints", url, "--command-timeout", "20s"}, args...)...)
		cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
		cmd.Stdin = strings.NewReader(stdin)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Run()
		return out.String(), err
	}
	snapshot := filepath.Join(t.TempDir(), "snap.db")
	for _, c := range []struct {
		args  []string
		stdin string
		want  string
	}{
		{[]string{"put", "/a", "1"}, "", "OK\n"},
		{[]string{"put", "/b", "2", "--prev-kv"}, "", "OK\n"},
		{[]string{"get", "/a"}, "", "/a\n1\n"},
		{[]string{"get", "/", "--prefix", "--keys-only"}, "", "/a\n\n/b\n"},
		{[]string{"get", "/", "--prefix", "--sort-by=KEY", "--order=DESCEND", "--limit=1", "--print-value-only"}, "", "2\n"},
		{[]string{"get", "/", "--prefix", "-w", "fields"}, "", "\"Count\" : 2"},
		{[]string{"put", "/a", "new", "--prev-kv"}, "", "OK\n/a\n1\n"},
		{[]string{"get", "/a", "--rev=2"}, "", "/a\n1\n"},
		{[]string{"txn"}, "value(\"/a\") = \"new\"\n\nput /c 3\nget /a\n\nget /b\n\n", "SUCCESS\n\nOK\n\n/a\nnew\n"},
		{[]string{"txn"}, "mod(\"/a\") = \"1\"\n\nput /c 3\n\nget /b\n\n", "FAILURE\n\n/b\n2\n"},
		{[]string{"lease", "grant", "500"}, "", "granted with TTL(500s)"},
		{[]string{"lease", "list"}, "", "found 1 leases"},
		{[]string{"compact", "4"}, "", "compacted revision 4\n"},
		{[]string{"get", "/a", "--rev=2"}, "", "required revision has been compacted"},
		{[]string{"snapshot", "save", snapshot}, "", "Snapshot saved at"},
		{[]string{"snapshot", "status", snapshot}, "", ", 5, "},
		{[]string{"del", "/", "--prefix"}, "", "3\n"},
		{[]string{"endpoint", "health"}, "", "is healthy"},
		{[]string{"endpoint", "status", "-w", "fields"}, "", "\"Version\" : \"3."},
		{[]string{"endpoint", "hashkv"}, "", url},
		{[]string{"member", "list"}, "", "started"},
		{[]string{"alarm", "list"}, "", ""},
		{[]string{"defrag"}, "", "Finished defragmenting"},
		{[]string{"auth", "enable"}, "", "Unimplemented"},
	} {
		out, err := ctl(c.stdin, c.args...)
		fails := strings.Contains(c.want, "compacted") && c.args[0] == "get" || c.want == "Unimplemented"
		if !strings.Contains(out, c.want) || (err != nil) != fails {
			t.Errorf("etcdctl %s: %v\n%s\nwant %q", strings.Join(c.args, " "), err, out, c.want)
		}
	}
	watch := exec.CommandContext(ctx, path, "--endpoints", url, "watch", "/w", "--rev=7", "--prev-kv")
	watch.Env = append(os.Environ(), "ETCDCTL_API=3")
	out, err := watch.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = watch.Process.Kill() // it would go on
		_ = watch.Wait()
	})
	for i := range 2 {
		if _, err := ctl("", "put", "/w", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	var seen []byte
	b := make([]byte, 1024)
	for want := "PUT\n/w\n0\nPUT\n/w\n0\n/w\n1\n"; !strings.Contains(string(seen), want); {
		n, err := out.Read(b)
		if seen = append(seen, b[:n]...); err != nil || len(seen) > 10*len(want) {
			t.Fatalf("etcdctl watch: %v\n%s\nwant %q", err, seen, want)
		}
	}
}
