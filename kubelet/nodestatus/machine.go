// Package nodestatus registers the node, keeps its status and Lease up to
// date, and knows what the machine has.
package nodestatus

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Machine is what does not change while the machine runs.
type Machine struct {
	CPUs               int
	Memory, Swap       int64
	HugePages          map[int64]int64
	MachineID          string
	SystemUUID, BootID string
	Kernel, OSImage    string
	Architecture       string
}

// ReadMachine asks the kernel.
func ReadMachine() (*Machine, error) {
	m := &Machine{CPUs: runtime.NumCPU(), Architecture: runtime.GOARCH, HugePages: map[int64]int64{}}
	info, err := MemInfo()
	if err != nil {
		return nil, err
	}
	m.Memory, m.Swap = info["MemTotal"], info["SwapTotal"]
	m.MachineID = firstOf("/etc/machine-id", "/var/lib/dbus/machine-id")
	m.BootID = firstOf("/proc/sys/kernel/random/boot_id")
	m.SystemUUID = strings.ToLower(firstOf("/sys/class/dmi/id/product_uuid", "/proc/device-tree/vm,uuid", "/etc/machine-id"))
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	m.OSImage = osImage()
	dirs, err := filepath.Glob("/sys/kernel/mm/hugepages/hugepages-*kB")
	if err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		size, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(dir), "hugepages-"), "kB"), 10, 64)
		if err != nil {
			continue
		}
		n, err := strconv.ParseInt(firstOf(filepath.Join(dir, "nr_hugepages")), 10, 64)
		if err != nil {
			continue
		}
		m.HugePages[size<<10] = n
	}
	return m, nil
}

func firstOf(files ...string) string {
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil {
			if text := strings.Trim(string(b), "\x00\n "); text != "" {
				return text
			}
		}
	}
	return ""
}

func osImage() string {
	b, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "Linux"
	}
	for _, line := range strings.Split(string(b), "\n") {
		if v, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			return strings.Trim(v, `"`)
		}
	}
	return "Linux"
}

// MemInfo reads /proc/meminfo, in bytes.
func MemInfo() (map[string]int64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	out := map[string]int64{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			continue
		}
		n, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			continue
		}
		if len(fields) > 2 {
			n <<= 10
		}
		out[strings.TrimSuffix(fields[0], ":")] = n
	}
	if out["MemTotal"] == 0 {
		return nil, fmt.Errorf("/proc/meminfo names no MemTotal")
	}
	return out, lines.Err()
}

// Capacity is what the machine has for pods, before anything is set aside.
func (m *Machine) Capacity(maxPods int64, rootDir string) v1.ResourceList {
	out := v1.ResourceList{
		v1.ResourceCPU:    *resource.NewMilliQuantity(int64(m.CPUs)*1000, resource.DecimalSI),
		v1.ResourceMemory: *resource.NewQuantity(m.Memory, resource.BinarySI),
		v1.ResourcePods:   *resource.NewQuantity(maxPods, resource.DecimalSI),
	}
	for size, n := range m.HugePages {
		name := v1.ResourceName(v1.ResourceHugePagesPrefix + resource.NewQuantity(size, resource.BinarySI).String())
		out[name] = *resource.NewQuantity(size*n, resource.BinarySI)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(rootDir, &st); err == nil {
		out[v1.ResourceEphemeralStorage] = *resource.NewQuantity(int64(st.Blocks)*st.Bsize, resource.BinarySI)
	}
	return out
}

// Allocatable is the capacity without what is reserved and without what
// eviction keeps free.
func Allocatable(capacity v1.ResourceList, reserved []map[string]string, evictionHard map[string]string) (v1.ResourceList, error) {
	out := capacity.DeepCopy()
	subtract := func(name v1.ResourceName, q resource.Quantity) {
		left, ok := out[name]
		if !ok {
			return
		}
		left.Sub(q)
		if left.Sign() < 0 {
			left = *resource.NewQuantity(0, left.Format)
		}
		out[name] = left
	}
	for _, list := range reserved {
		for name, text := range list {
			q, err := resource.ParseQuantity(text)
			if err != nil {
				return nil, fmt.Errorf("reserved %s=%q: %w", name, text, err)
			}
			subtract(v1.ResourceName(name), q)
		}
	}
	for signal, name := range map[string]v1.ResourceName{"memory.available": v1.ResourceMemory, "nodefs.available": v1.ResourceEphemeralStorage} {
		text, ok := evictionHard[signal]
		total, has := capacity[name]
		if !ok || !has {
			continue
		}
		q, err := Threshold(text, total.Value())
		if err != nil {
			return nil, fmt.Errorf("evictionHard %s=%q: %w", signal, text, err)
		}
		subtract(name, *resource.NewQuantity(q, resource.BinarySI))
	}
	// Huge pages are memory that is not for other use.
	for name, q := range capacity {
		if strings.HasPrefix(string(name), v1.ResourceHugePagesPrefix) {
			subtract(v1.ResourceMemory, q)
		}
	}
	return out, nil
}

// Threshold reads an amount or a percentage of a total.
func Threshold(text string, total int64) (int64, error) {
	if p, ok := strings.CutSuffix(text, "%"); ok {
		f, err := strconv.ParseFloat(p, 64)
		if err != nil || f < 0 || f > 100 {
			return 0, fmt.Errorf("%q is not a percentage", text)
		}
		return int64(float64(total) * f / 100), nil
	}
	q, err := resource.ParseQuantity(text)
	if err != nil {
		return 0, err
	}
	return q.Value(), nil
}
