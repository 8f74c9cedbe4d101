package packettest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"skiff/proxy/state"
)

// asked is how many first packets are timed.
const asked = 400

// Measure times a writer at several sizes: the cold sync of all rules, one
// Service more, one endpoint more, the look whether all is still there, and how long
// a first packet takes to be answered. One iteration is a Service and an endpoint more.
func Measure(b *testing.B, kit Kit) {
	if os.Getuid() != 0 {
		b.Skip("needs root")
	}
	for _, size := range []struct{ services, endpoints int }{{100, 2}, {1000, 2}, {5000, 2}, {10000, 2}, {1, 1000}} {
		b.Run(fmt.Sprintf("services=%d,endpoints=%d", size.services, size.endpoints), func(b *testing.B) {
			m := &measured{World: NewWorld(b), table: state.NewTable()}
			m.manyAddresses(b)
			m.Node.Must(b, func() (err error) {
				m.writer, err = kit.New(byRange(), false)
				return err
			})
			for i := range size.services {
				m.set(i, size.endpoints)
			}
			cold := m.sync(b, true)
			var service, endpoint []time.Duration
			for n := size.services; b.Loop(); n++ {
				m.set(n, size.endpoints)
				service = append(service, m.sync(b, false))
				m.set(0, size.endpoints+len(service))
				endpoint = append(endpoint, m.sync(b, false))
			}
			look := m.look(b)
			first := m.firstPackets(b, size.services)
			b.ReportMetric(millis(cold), "cold-ms")
			b.ReportMetric(millis(percentile(service, 50)), "service-ms")
			b.ReportMetric(millis(percentile(endpoint, 50)), "endpoint-ms")
			b.ReportMetric(millis(look), "look-ms")
			b.ReportMetric(1000*millis(percentile(first, 50)), "first-p50-µs")
			b.ReportMetric(1000*millis(percentile(first, 99)), "first-p99-µs")
			m.Node.Must(b, kit.Clean)
		})
	}
}

type measured struct {
	*World
	writer Writer
	table  *state.Table
}

// endpointsFrom is where the addresses begin that all lead to the first pod.
const endpointsFrom = "10.2.128.0"

func (m *measured) manyAddresses(b *testing.B) {
	b.Helper()
	_, all, err := net.ParseCIDR(endpointsFrom + "/17")
	if err != nil {
		b.Fatal(err)
	}
	m.Node.Must(b, func() error { return netlink.RouteAdd(&netlink.Route{Dst: all, Gw: net.ParseIP(pod1IP)}) })
	m.Pod1.Must(b, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: all, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST})
	})
}

// numbered is the address that comes n after another.
func numbered(from string, n int) string {
	a := netip.MustParseAddr(from).As4()
	a[2] += byte(n >> 8)
	a[3] += byte(n)
	return netip.AddrFrom4(a).String()
}

// set is the n-th Service with its own endpoints.
func (m *measured) set(n, endpoints int) {
	ip := numbered("10.96.0.0", n+1)
	s := &v1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("service-%05d", n)},
		Spec:       v1.ServiceSpec{ClusterIP: ip, ClusterIPs: []string{ip}, Ports: []v1.ServicePort{{Port: 80, Protocol: v1.ProtocolTCP}}},
	}
	slice := &discovery.EndpointSlice{
		AddressType: discovery.AddressTypeIPv4,
		Ports:       []discovery.EndpointPort{{Name: ptr.To(""), Port: ptr.To[int32](Port), Protocol: ptr.To(v1.ProtocolTCP)}},
	}
	for i := range endpoints {
		slice.Endpoints = append(slice.Endpoints, at(numbered(endpointsFrom, 2*n+i), "n1"))
	}
	m.table.Set(types.NamespacedName{Namespace: s.Namespace, Name: s.Name}, state.Ports(s, []*discovery.EndpointSlice{slice}, state.Node{Name: "n1"}))
}

func (m *measured) sync(b *testing.B, full bool) time.Duration {
	b.Helper()
	began := time.Now()
	m.Node.Must(b, func() error { return m.writer.Sync(context.Background(), m.table, full) })
	return time.Since(began)
}

// look times the check that the proxy makes again and again; the least of some
// tells most on a machine that does other work.
func (m *measured) look(b *testing.B) time.Duration {
	b.Helper()
	least := time.Hour
	for range 5 {
		began := time.Now()
		m.Node.Must(b, func() error {
			ok, err := m.writer.Intact()
			if err == nil && !ok {
				err = errors.New("rules that were written are not intact")
			}
			return err
		})
		least = min(least, time.Since(began))
	}
	return least
}

// firstPackets times connections to Services spread over all of them.
func (m *measured) firstPackets(b *testing.B, services int) []time.Duration {
	b.Helper()
	var took []time.Duration
	m.Client.Must(b, func() error {
		for i := range asked {
			began := time.Now()
			c, err := net.DialTimeout("tcp", numbered("10.96.0.0", i*services/asked+1)+":80", patience)
			if err != nil {
				return err
			}
			took = append(took, time.Since(began))
			c.Close()
		}
		return nil
	})
	return took
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func percentile(of []time.Duration, p int) time.Duration {
	slices.Sort(of)
	return of[(len(of)*p+99)/100-1]
}
