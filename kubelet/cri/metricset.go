package cri

import (
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// containerMetric is one of cAdvisor's metrics of a container. Values are whole
// numbers: CRI has no others.
type containerMetric struct {
	name, help string
	kind       runtimeapi.MetricType
	labels     []string
	read       func(*reading) []point
}

// point is one value with the values of the metric's own labels.
type point struct {
	value  uint64
	labels []string
}

const (
	counter = runtimeapi.MetricType_COUNTER
	gauge   = runtimeapi.MetricType_GAUGE
)

// one makes a metric with one value.
func one(name, help string, kind runtimeapi.MetricType, read func(*reading) uint64) containerMetric {
	return containerMetric{name: name, help: help, kind: kind, read: func(rd *reading) []point { return []point{{value: read(rd)}} }}
}

// onDevice makes a metric of the file system that holds the containers.
func onDevice(name, help string, kind runtimeapi.MetricType, read func(*reading) uint64) containerMetric {
	m := one(name, help, kind, nil)
	m.labels = []string{"device"}
	m.read = func(rd *reading) []point { return []point{{read(rd), []string{rd.device}}} }
	return m
}

const second = 1_000_000_000

var containerMetrics = [...]containerMetric{
	one("container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", counter, func(rd *reading) uint64 { return rd.stats.Cpu.GetUsageCoreNanoSeconds().GetValue() / second }),
	one("container_cpu_user_seconds_total", "Cumulative user cpu time consumed in seconds.", counter, func(rd *reading) uint64 { return rd.cpu.user / second }),
	one("container_cpu_system_seconds_total", "Cumulative system cpu time consumed in seconds.", counter, func(rd *reading) uint64 { return rd.cpu.system / second }),
	one("container_cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.", counter, func(rd *reading) uint64 { return rd.cpu.periods }),
	one("container_cpu_cfs_throttled_periods_total", "Number of throttled period intervals.", counter, func(rd *reading) uint64 { return rd.cpu.throttledPeriods }),
	one("container_cpu_cfs_throttled_seconds_total", "Total time duration the container has been throttled.", counter, func(rd *reading) uint64 { return rd.cpu.throttled / second }),

	one("container_memory_usage_bytes", "Current memory usage in bytes, including all memory regardless of when it was accessed.", gauge, func(rd *reading) uint64 { return rd.stats.Memory.GetUsageBytes().GetValue() }),
	one("container_memory_working_set_bytes", "Current working set in bytes.", gauge, func(rd *reading) uint64 { return rd.stats.Memory.GetWorkingSetBytes().GetValue() }),
	one("container_memory_rss", "Size of RSS in bytes.", gauge, func(rd *reading) uint64 { return rd.stats.Memory.GetRssBytes().GetValue() }),
	one("container_memory_cache", "Number of bytes of page cache memory.", gauge, func(rd *reading) uint64 { return rd.memory.cache }),
	one("container_memory_mapped_file", "Size of memory mapped files in bytes.", gauge, func(rd *reading) uint64 { return rd.memory.mapped }),
	one("container_memory_kernel_usage", "Size of kernel memory allocated in bytes.", gauge, func(rd *reading) uint64 { return rd.memory.kernel }),
	one("container_memory_max_usage_bytes", "Maximum memory usage recorded in bytes.", gauge, func(rd *reading) uint64 { return rd.memory.peak }),
	one("container_memory_swap", "Container swap usage in bytes.", gauge, func(rd *reading) uint64 { return rd.stats.Swap.GetSwapUsageBytes().GetValue() }),
	one("container_memory_failcnt", "Number of memory usage hits limits.", counter, func(rd *reading) uint64 { return rd.memory.limitHits }),
	{"container_memory_failures_total", "Cumulative count of memory allocation failures.", counter, []string{"failure_type", "scope"}, func(rd *reading) []point {
		m := rd.stats.Memory
		return []point{{m.GetPageFaults().GetValue(), []string{"pgfault", "container"}}, {m.GetMajorPageFaults().GetValue(), []string{"pgmajfault", "container"}}}
	}},
	one("container_oom_events_total", "Count of out of memory events observed for the container.", counter, func(rd *reading) uint64 { return rd.memory.oomKills }),
	{"container_hugetlb_usage_bytes", "Current hugepage usage in bytes.", gauge, []string{"pagesize"}, (*reading).hugePages},

	onDevice("container_fs_usage_bytes", "Number of bytes that are consumed by the container on this filesystem.", gauge, func(rd *reading) uint64 { return rd.stats.WritableLayer.GetUsedBytes().GetValue() }),
	onDevice("container_fs_limit_bytes", "Number of bytes that can be consumed by the container on this filesystem.", gauge, func(rd *reading) uint64 { return rd.fs.Blocks * uint64(rd.fs.Bsize) }),
	onDevice("container_fs_inodes_total", "Number of Inodes", gauge, func(rd *reading) uint64 { return rd.fs.Files }),
	onDevice("container_fs_inodes_free", "Number of available Inodes", gauge, func(rd *reading) uint64 { return rd.fs.Ffree }),
	{"container_fs_reads_bytes_total", "Cumulative count of bytes read", counter, []string{"device"}, func(rd *reading) []point { return rd.transfers("Read", true) }},
	{"container_fs_reads_total", "Cumulative count of reads completed", counter, []string{"device"}, func(rd *reading) []point { return rd.transfers("Read", false) }},
	{"container_fs_writes_bytes_total", "Cumulative count of bytes written", counter, []string{"device"}, func(rd *reading) []point { return rd.transfers("Write", true) }},
	{"container_fs_writes_total", "Cumulative count of writes completed", counter, []string{"device"}, func(rd *reading) []point { return rd.transfers("Write", false) }},
	{"container_blkio_device_usage_total", "Blkio Device bytes usage", counter, []string{"device", "major", "minor", "operation"}, (*reading).blockDevices},

	one("container_processes", "Number of processes running inside the container.", gauge, func(rd *reading) uint64 { return rd.processes.count }),
	one("container_file_descriptors", "Number of open file descriptors for the container.", gauge, func(rd *reading) uint64 { return rd.processes.files }),
	one("container_sockets", "Number of open sockets for the container.", gauge, func(rd *reading) uint64 { return rd.processes.sockets }),
	{"container_ulimits_soft", "Soft ulimit values for the container root process. Unlimited if -1, except priority and nice", gauge, []string{"ulimit"}, (*reading).limits},
	one("container_threads", "Number of threads running inside the container", gauge, func(rd *reading) uint64 { return rd.threads }),
	one("container_threads_max", "Maximum number of threads allowed inside the container, infinity if value is zero", gauge, func(rd *reading) uint64 { return rd.threadsMax }),

	one("container_pressure_cpu_waiting_seconds_total", "Total time duration tasks in the container have waited due to CPU congestion.", counter, func(rd *reading) uint64 { return rd.pressure("cpu", "some") }),
	one("container_pressure_cpu_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to CPU congestion.", counter, func(rd *reading) uint64 { return rd.pressure("cpu", "full") }),
	one("container_pressure_memory_waiting_seconds_total", "Total time duration tasks in the container have waited due to memory congestion.", counter, func(rd *reading) uint64 { return rd.pressure("memory", "some") }),
	one("container_pressure_memory_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to memory congestion.", counter, func(rd *reading) uint64 { return rd.pressure("memory", "full") }),
	one("container_pressure_io_waiting_seconds_total", "Total time duration tasks in the container have waited due to IO congestion.", counter, func(rd *reading) uint64 { return rd.pressure("io", "some") }),
	one("container_pressure_io_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to IO congestion.", counter, func(rd *reading) uint64 { return rd.pressure("io", "full") }),

	one("container_spec_cpu_period", "CPU period of the container.", gauge, func(rd *reading) uint64 { return uint64(max(0, rd.resources.GetCpuPeriod())) }),
	one("container_spec_cpu_quota", "CPU quota of the container.", gauge, func(rd *reading) uint64 { return uint64(max(0, rd.resources.GetCpuQuota())) }),
	one("container_spec_cpu_shares", "CPU share of the container.", gauge, func(rd *reading) uint64 { return uint64(max(0, rd.resources.GetCpuShares())) }),
	one("container_spec_memory_limit_bytes", "Memory limit for the container.", gauge, func(rd *reading) uint64 { return uint64(max(0, rd.resources.GetMemoryLimitInBytes())) }),
	one("container_spec_memory_swap_limit_bytes", "Memory swap limit for the container.", gauge, func(rd *reading) uint64 { return uint64(max(0, rd.resources.GetMemorySwapLimitInBytes())) }),

	one("container_start_time_seconds", "Start time of the container since unix epoch in seconds.", gauge, func(rd *reading) uint64 { return uint64(max(0, rd.started/second)) }),
	one("container_last_seen", "Last time a container was seen by the exporter", gauge, func(rd *reading) uint64 { return uint64(rd.at.Unix()) }),
}
