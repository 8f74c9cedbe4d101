package proxy

import (
	"github.com/prometheus/client_golang/prometheus"

	"skiff/proxy/iptables"
	"skiff/proxy/nfacct"
)

// packets are what rules of iptables have counted, read when somebody asks. What the
// kernel does not count has no sample.
type packets map[string]*prometheus.Desc

func newPackets() packets {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("kubeproxy_iptables_"+name, help, nil, nil)
	}
	return packets{
		iptables.CountInvalid:   desc("ct_state_invalid_dropped_packets_total", "How many packets were dropped that the kernel knows no connection of."),
		iptables.CountLocalhost: desc("localhost_nodeports_accepted_packets_total", "How many packets came to node ports on the loopback address."),
	}
}

// Describe and Collect make packets a prometheus.Collector.
func (p packets) Describe(out chan<- *prometheus.Desc) {
	for _, d := range p {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (p packets) Collect(out chan<- prometheus.Metric) {
	for name, d := range p {
		if n, err := nfacct.Packets(name); err == nil {
			out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n))
		}
	}
}
