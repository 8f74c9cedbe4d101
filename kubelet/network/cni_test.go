package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// cniNode is a folder with a CNI configuration and plugins that are scripts.
type cniNode struct {
	t              *testing.T
	dir, conf, bin string
	cni            *CNI
}

func newCNINode(t *testing.T) *cniNode {
	t.Helper()
	dir := t.TempDir()
	n := &cniNode{t: t, dir: dir, conf: filepath.Join(dir, "net.d"), bin: filepath.Join(dir, "bin")}
	for _, d := range []string{n.conf, n.bin} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	n.cni, err = NewCNI(CNIConfig{
		ConfDir: n.conf, BinDirs: []string{n.bin}, CacheDir: filepath.Join(dir, "cache"),
		Timeout: 3 * time.Second, StatusTimeout: 3 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// network configures one network of one plugin, in place of all others.
func (n *cniNode) network(name, plugin string) {
	n.t.Helper()
	list, err := json.Marshal(map[string]any{"cniVersion": "1.1.0", "name": name, "plugins": []any{map[string]any{"type": plugin}}})
	if err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.conf, "10-test.conflist"), list, 0o644); err != nil {
		n.t.Fatal(err)
	}
}

// plugin writes a plugin that has read its input when body runs. $dir is a
// folder for what the test looks at.
func (n *cniNode) plugin(name, body string) {
	n.t.Helper()
	script := fmt.Sprintf("#!/bin/sh\ndir=%s\ncat >/dev/null\n%s\n", n.dir, body)
	if err := os.WriteFile(filepath.Join(n.bin, name), []byte(script), 0o755); err != nil {
		n.t.Fatal(err)
	}
}

const (
	added = `{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","mac":"0a:0b:0c:0d:0e:0f","sandbox":"x"}],"ips":[{"address":"10.9.8.7/24","interface":0}]}`
	works = `case $CNI_COMMAND in ADD) echo '` + added + `';; *) echo "$CNI_COMMAND $0 $CNI_CONTAINERID" >>$dir/calls;; esac`
)

var somePod = Pod{ID: "one", Namespace: "default", Name: "p", NetNSPath: "/proc/self/ns/net"}

// Covers: net.cni
func TestCNIConfiguration(t *testing.T) {
	n := newCNINode(t)
	if n.cni.Configured() {
		t.Error("an empty folder is a configuration")
	}
	if err := n.cni.Status(t.Context()); !errors.Is(err, ErrNotReady) {
		t.Errorf("status without a configuration: %v, want %v", err, ErrNotReady)
	}
	n.network("test", "fake")
	n.plugin("fake", works)
	got, err := n.cni.Setup(t.Context(), somePod)
	if err != nil {
		t.Fatal(err)
	}
	want := Result{IPs: []netip.Addr{netip.MustParseAddr("10.9.8.7")}, Interface: "eth0", MAC: "0a:0b:0c:0d:0e:0f"}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if err := errors.Join(n.cni.Status(t.Context()), n.cni.Check(t.Context(), somePod), n.cni.Teardown(t.Context(), somePod)); err != nil {
		t.Error(err)
	}
}

// A plugin that is broken gives a text that says what happened, soon.
func TestBrokenCNIPlugins(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		want       []string
	}{
		{"tells why", `echo '{"cniVersion":"1.1.0","code":11,"msg":"no more addresses","details":"range is full"}'; exit 1`,
			[]string{`plugin type="fake" failed (add): no more addresses`, "range is full"}},
		{"complains", `echo 'iptables: not here' >&2; exit 3`, []string{`failed (add): netplugin failed: "iptables: not here\n": exit status 3`}},
		{"says nothing", `exit 1`, []string{"netplugin failed with no error message: exit status 1"}},
		{"garbage and a failure", `echo '<html>'; exit 1`, []string{`netplugin failed but error parsing its diagnostic message "<html>\n"`}},
		{"garbage", `echo '<html>'`, []string{"invalid character '<'"}},
		{"nothing", ``, []string{"failed (add)"}},
		{"no address", `echo '{"cniVersion":"1.1.0"}'`, []string{"gave the pod no address"}},
		{"a flood", `head -c 3000000 /dev/zero | tr '\0' a`, []string{"printed more than 1048576 bytes", `beginning with "aaaa`}},
		{"a flood of complaints", `head -c 3000000 /dev/zero | tr '\0' a >&2; exit 1`, []string{`netplugin failed: "aaaa`}},
		{"a flood of reasons", `printf '{"msg":"'; head -c 300000 /dev/zero | tr '\0' a; printf '"}'; exit 1`, []string{`failed (add): aaaa`}},
		{"hangs", `sleep 1000`, []string{"did not end in time and was killed"}},
		{"killed", `kill -9 $$`, []string{"signal: killed"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newCNINode(t)
			n.network("test", "fake")
			n.plugin("fake", tc.body)
			_, err := n.cni.Setup(t.Context(), somePod)
			if err == nil {
				t.Fatal("the pod was set up")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %.300q, want %q in it", err, want)
				}
			}
			if len(err.Error()) > 4<<10 {
				t.Errorf("the error has %d bytes, more than an event should have", len(err.Error()))
			}
		})
	}
	t.Run("missing", func(t *testing.T) {
		n := newCNINode(t)
		n.network("test", "fake")
		_, err := n.cni.Setup(t.Context(), somePod)
		if err == nil || !strings.Contains(err.Error(), `failed to find plugin "fake" in path [`+n.bin+`]`) {
			t.Errorf("error %v, want one that says where it looked", err)
		}
	})
}

// What a hanging plugin has started ends with it, whatever it is asked for.
func TestHangingCNIPluginIsEndedWhole(t *testing.T) {
	n := newCNINode(t)
	n.network("test", "fake")
	n.plugin("fake", `sleep 1000 & echo $! >$dir/child; wait`)
	for name, call := range map[string]func() error{
		"add":    func() error { _, err := n.cni.Setup(t.Context(), somePod); return err },
		"delete": func() error { return n.cni.Teardown(t.Context(), somePod) },
		"status": func() error { return n.cni.Status(t.Context()) },
	} {
		if err := call(); err == nil {
			t.Errorf("%s: no error", name)
		}
		data, err := os.ReadFile(filepath.Join(n.dir, "child"))
		if err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(10 * time.Second)
		for pid := strings.TrimSpace(string(data)); lives(pid); {
			if time.Now().After(deadline) {
				t.Fatalf("%s: process %s, which the plugin started, lives", name, pid)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

func lives(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z")
}

// A daemon that a plugin leaves behind does not hold up the pod.
func TestCNIPluginLeavesADaemon(t *testing.T) {
	n := newCNINode(t)
	n.network("test", "fake")
	n.plugin("fake", "sleep 30 & echo $! >$dir/child\n"+works)
	t.Cleanup(func() {
		if pid, err := os.ReadFile(filepath.Join(n.dir, "child")); err == nil {
			if p, err := os.FindProcess(number(string(pid))); err == nil {
				_ = p.Kill()
			}
		}
	})
	if _, err := n.cni.Setup(t.Context(), somePod); err != nil {
		t.Error(err)
	}
}

func number(text string) int {
	var n int
	_, _ = fmt.Sscan(text, &n)
	return n
}

// A pod leaves by the network that it came by: not by one that has replaced it,
// and also when there is none any more.
func TestCNITeardownAsItWasSetUp(t *testing.T) {
	for name, change := range map[string]func(*cniNode){
		"replaced": func(n *cniNode) { n.network("second", "second") },
		"removed": func(n *cniNode) {
			if err := os.Remove(filepath.Join(n.conf, "10-test.conflist")); err != nil {
				n.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newCNINode(t)
			n.plugin("first", works)
			n.plugin("second", works)
			n.network("first", "first")
			if _, err := n.cni.Setup(t.Context(), somePod); err != nil {
				t.Fatal(err)
			}
			change(n)
			if err := n.cni.Teardown(t.Context(), somePod); err != nil {
				t.Fatal(err)
			}
			calls, err := os.ReadFile(filepath.Join(n.dir, "calls"))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			if diff := cmp.Diff("DEL "+filepath.Join(n.bin, "first")+" one\n", string(calls)); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
			left, err := n.cni.lib.GetCachedAttachments("one")
			if err != nil || len(left) > 0 {
				t.Errorf("%d attachments are left (%v)", len(left), err)
			}
		})
	}
}

// A plugin that cannot take a pod down is asked again until it can.
func TestCNITeardownIsTriedAgain(t *testing.T) {
	n := newCNINode(t)
	n.network("test", "fake")
	n.plugin("fake", works)
	if _, err := n.cni.Setup(t.Context(), somePod); err != nil {
		t.Fatal(err)
	}
	n.plugin("fake", `echo 'not now' >&2; exit 1`)
	if err := n.cni.Teardown(t.Context(), somePod); err == nil || !strings.Contains(err.Error(), `plugin type="fake" failed (delete): netplugin failed: "not now\n"`) {
		t.Errorf("error %v, want the plugin's words", err)
	}
	n.plugin("fake", works)
	if err := n.cni.Teardown(t.Context(), somePod); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(n.dir, "calls")); err != nil {
		t.Errorf("the plugin was not asked again: %v", err)
	}
}

// A setup that ended halfway is taken down by what it began with. As long as that is
// the node's configuration, every plugin must do its part; later those that can do.
func TestCNITeardownOfHalfASetup(t *testing.T) {
	n := newCNINode(t)
	n.plugin("gives", works)
	n.plugin("fails", `echo 'not now' >&2; exit 1`)
	configure := func(name string, plugins ...string) {
		t.Helper()
		var list []any
		for _, p := range plugins {
			list = append(list, map[string]any{"type": p})
		}
		data, err := json.Marshal(map[string]any{"cniVersion": "1.1.0", "name": name, "plugins": list})
		if err == nil {
			err = os.WriteFile(filepath.Join(n.conf, "10-test.conflist"), data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	auto := &Auto{CNI: n.cni, Dir: filepath.Join(n.dir, "pods")}
	for _, tc := range []struct {
		name   string
		change func()
	}{
		{"replaced", func() { configure("next", "gives") }},
		{"removed", func() {
			if err := os.Remove(filepath.Join(n.conf, "10-test.conflist")); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			configure("test", "gives", "fails")
			if _, err := auto.Setup(t.Context(), somePod); err == nil {
				t.Fatal("a plugin that fails set a pod up")
			}
			if err := auto.Teardown(t.Context(), somePod); err == nil || !strings.Contains(err.Error(), "not now") {
				t.Errorf("taken down while a configured plugin cannot: %v", err)
			}
			if err := os.Remove(filepath.Join(n.dir, "calls")); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			tc.change()
			if err := auto.Teardown(t.Context(), somePod); err != nil {
				t.Fatal(err)
			}
			calls, err := os.ReadFile(filepath.Join(n.dir, "calls"))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff("DEL "+filepath.Join(n.bin, "gives")+" one\n", string(calls)); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
			if left, err := os.ReadDir(auto.Dir); err != nil || len(left) > 0 {
				t.Errorf("%d pods are remembered (%v)", len(left), err)
			}
		})
	}
}
