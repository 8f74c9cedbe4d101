package announce

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ndp"
)

// speaker answers for addresses of one family on one link.
type speaker struct {
	ifi  *net.Interface
	wire wire
	// over is closed when the link has gone, or is not to be spoken on any more.
	over    chan struct{}
	closing atomic.Bool

	mu sync.Mutex
	// told is how often each address was announced unasked.
	told map[netip.Addr]int // guarded by mu
}

// wire is how a family asks and answers for addresses.
type wire interface {
	// asked waits for a question, and returns what is asked for and how to answer.
	asked() (ip netip.Addr, answer func() error, err error)
	// tell announces an address unasked.
	tell(ip netip.Addr) error
	// join and leave have questions for an address come in.
	join(ip netip.Addr) error
	leave(ip netip.Addr) error
	Close() error
}

// listen begins to answer on a link. It is called in the link's network namespace.
func listen(ifi *net.Interface, v6 bool) (*speaker, error) {
	var w wire
	var err error
	if v6 {
		w, err = listenNDP(ifi)
	} else {
		w, err = listenARP(ifi)
	}
	if err != nil {
		return nil, fmt.Errorf("announce on %s: %w", ifi.Name, err)
	}
	return &speaker{ifi: ifi, wire: w, over: make(chan struct{}), told: make(map[netip.Addr]int)}, nil
}

// run answers until the speaker is closed or its link has gone.
func (s *speaker) run() error {
	defer close(s.over)
	for {
		ip, answer, err := s.wire.asked()
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errMalformed):
			continue
		case err != nil && s.closing.Load():
			return nil
		case err != nil:
			return fmt.Errorf("listen on %s: %w", s.ifi.Name, err)
		}
		s.mu.Lock()
		_, ours := s.told[ip]
		s.mu.Unlock()
		if ours {
			_ = answer() // who asked asks again
		}
	}
}

// close has run end. A wire that cannot be closed is one that is over.
func (s *speaker) close() {
	s.closing.Store(true)
	_ = s.wire.Close()
}

// times is how often an address is announced unasked: a packet may be lost.
const times = 3

// refresh has each address announced once more.
func (s *speaker) refresh() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ip, n := range s.told {
		s.told[ip] = min(n, times-1)
	}
}

// set says which addresses are answered for. more tells that some are to be announced
// once more.
func (s *speaker) set(want map[netip.Addr]bool) (more bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for ip := range s.told {
		if !want[ip] {
			delete(s.told, ip)
			errs = append(errs, s.wire.leave(ip))
		}
	}
	for ip := range want {
		if _, known := s.told[ip]; !known {
			if err := s.wire.join(ip); err != nil {
				errs = append(errs, err)
				continue
			}
			s.told[ip] = 0
		}
		if s.told[ip] < times {
			s.told[ip]++
			errs = append(errs, s.wire.tell(ip))
			more = more || s.told[ip] < times
		}
	}
	if err := errors.Join(errs...); err != nil {
		return more, fmt.Errorf("announce on %s: %w", s.ifi.Name, err)
	}
	return more, nil
}

// errMalformed is a packet that is no question.
var errMalformed = errors.New("not understood")

// arpWire is the wire of IPv4.
type arpWire struct{ *arp.Client }

func listenARP(ifi *net.Interface) (wire, error) {
	c, err := arp.Dial(ifi)
	if err != nil {
		return nil, err
	}
	return arpWire{c}, nil
}

func (w arpWire) asked() (netip.Addr, func() error, error) {
	p, _, err := w.Read()
	if err != nil {
		return netip.Addr{}, nil, err
	}
	if p.Operation != arp.OperationRequest {
		return netip.Addr{}, nil, errMalformed
	}
	return p.TargetIP, func() error { return w.Reply(p, w.HardwareAddr(), p.TargetIP) }, nil
}

// tell sends a request for the address from itself, which all on the link learn from.
func (w arpWire) tell(ip netip.Addr) error {
	all := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	p, err := arp.NewPacket(arp.OperationRequest, w.HardwareAddr(), ip, all, ip)
	if err != nil {
		return err
	}
	return w.WriteTo(p, all)
}

func (arpWire) join(netip.Addr) error  { return nil }
func (arpWire) leave(netip.Addr) error { return nil }

// ndpWire is the wire of IPv6.
type ndpWire struct {
	*ndp.Conn
	mac net.HardwareAddr
}

func listenNDP(ifi *net.Interface) (wire, error) {
	c, _, err := ndp.Listen(ifi, ndp.LinkLocal)
	if err != nil {
		return nil, err
	}
	return ndpWire{c, ifi.HardwareAddr}, nil
}

func (w ndpWire) asked() (netip.Addr, func() error, error) {
	m, _, from, err := w.ReadFrom()
	if err != nil {
		if failed := (net.Error)(nil); errors.As(err, &failed) {
			return netip.Addr{}, nil, err
		}
		return netip.Addr{}, nil, errMalformed
	}
	ask, ok := m.(*ndp.NeighborSolicitation)
	if !ok {
		return netip.Addr{}, nil, errMalformed
	}
	return ask.TargetAddress, func() error {
		if from.IsUnspecified() {
			return w.tell(ask.TargetAddress) // who asks wants the address for itself
		}
		return w.advertise(ask.TargetAddress, from, true)
	}, nil
}

func (w ndpWire) tell(ip netip.Addr) error {
	return w.advertise(ip, netip.IPv6LinkLocalAllNodes(), false)
}

func (w ndpWire) advertise(ip, to netip.Addr, solicited bool) error {
	return w.WriteTo(&ndp.NeighborAdvertisement{
		Solicited: solicited, Override: true, TargetAddress: ip,
		Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: w.mac}},
	}, nil, to)
}

func (w ndpWire) join(ip netip.Addr) error {
	group, err := ndp.SolicitedNodeMulticast(ip)
	if err != nil {
		return err
	}
	return w.JoinGroup(group)
}

func (w ndpWire) leave(ip netip.Addr) error {
	group, err := ndp.SolicitedNodeMulticast(ip)
	if err != nil {
		return err
	}
	return w.LeaveGroup(group)
}
