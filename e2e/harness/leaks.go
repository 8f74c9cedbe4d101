package harness

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// leaked lists what a cluster left on the machine after its reset.
func leaked(root string, ids []string) []string {
	var out []string
	for _, each := range []func() []string{
		func() []string { return leakedMounts(root, ids) },
		func() []string { return leakedProcesses(root, ids) },
		func() []string { return leakedNames("/run", ids) },
		func() []string { return leakedNames("/run/netns", ids) },
		func() []string { return leakedCgroups(ids) },
		leakedInterfaces,
		leakedRules,
	} {
		out = append(out, each()...)
	}
	return out
}

func mentions(text string, ids []string) bool {
	return slices.ContainsFunc(ids, func(id string) bool { return strings.Contains(text, id) })
}

func leakedMounts(root string, ids []string) []string {
	points, err := mountPoints(root, ids)
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for _, p := range points {
		out = append(out, "mount "+p)
	}
	return out
}

// mountPoints are those of a cluster, in the order of their making.
func mountPoints(root string, ids []string) ([]string, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 4 && (strings.HasPrefix(f[4], root) || mentions(f[4], ids)) {
			out = append(out, f[4])
		}
	}
	return out, nil
}

func leakedProcesses(root string, ids []string) []string {
	var out []string
	for pid, cmd := range commandLines(root, ids) {
		out = append(out, fmt.Sprintf("process %d: %s", pid, cmd))
	}
	return out
}

// commandLines are the command lines that name a cluster, by their process.
func commandLines(root string, ids []string) map[int]string {
	out := map[int]string{}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return out
	}
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() {
			continue
		}
		b, err := os.ReadFile(dir + "/cmdline")
		if err != nil {
			continue // it ended
		}
		cmd := strings.ReplaceAll(string(b), "\x00", " ")
		if strings.Contains(cmd, root) || mentions(cmd, ids) {
			out[pid] = cmd
		}
	}
	return out
}

func leakedNames(dir string, ids []string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // /run/netns need not be there
	}
	var out []string
	for _, e := range entries {
		if strings.Contains(e.Name(), "skiff") && mentions(e.Name(), ids) {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	return out
}

func leakedCgroups(ids []string) []string {
	var out []string
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // cgroups come and go
		}
		if mentions(d.Name(), ids) {
			out = append(out, "cgroup "+path)
			return fs.SkipDir
		}
		return nil
	})
	return out
}

// leakedInterfaces are all but those that the tests' namespace began with.
func leakedInterfaces() []string {
	all, err := net.Interfaces()
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for _, i := range all {
		if i.Name != "lo" && !strings.HasPrefix(i.Name, "e2e") && !strings.HasPrefix(i.Name, "ifb") {
			out = append(out, "interface "+i.Name)
		}
	}
	return out
}

// leakedRules are iptables rules and nftables tables: the tests' namespace began with none.
func leakedRules() []string {
	var out []string
	if b, err := exec.Command("nft", "list", "tables").Output(); err == nil {
		for line := range strings.Lines(string(b)) {
			if strings.Contains(line, " skiff-") || strings.Contains(line, " kube-proxy") {
				out = append(out, "nft: "+strings.TrimSpace(line))
			}
		}
	}
	for _, cmd := range []string{"iptables-save", "iptables-legacy-save", "iptables-nft-save"} {
		path, err := exec.LookPath(cmd)
		if err != nil {
			continue
		}
		b, err := exec.Command(path).Output()
		if err != nil {
			continue // this flavour does not work on this kernel
		}
		for line := range strings.Lines(string(b)) {
			if strings.HasPrefix(line, "-A ") || strings.HasPrefix(line, ":KUBE-") || strings.HasPrefix(line, ":SKIFF-") || strings.HasPrefix(line, ":CNI-") {
				out = append(out, cmd+": "+strings.TrimSpace(line))
			}
		}
	}
	return out
}
