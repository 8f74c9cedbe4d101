package harness

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"github.com/vishvananda/netlink"
)

const (
	// binaryEnv names the binary under test.
	binaryEnv = "SKIFF_E2E"
	// insideEnv tells the second run of the test binary, in its own namespace.
	insideEnv = "SKIFF_E2E_INSIDE"
)

// HostAddress is the machine's address in the tests' network namespace; the
// range is for tests of network devices, which no real network has.
const HostAddress = "198.19.255.1"

// Main runs the tests in a network namespace of their own, so that they take no
// port of the machine, and every interface and rule left in it is a leak. It
// returns the code to exit with.
func Main(run func() int) int {
	switch {
	case os.Getenv(binaryEnv) == "" || os.Geteuid() != 0:
		return run()
	case os.Getenv(insideEnv) != "":
		if err := network(); err != nil {
			fmt.Fprintln(os.Stderr, "e2e: set up the network namespace:", err)
			return 1
		}
		return run()
	}
	return again()
}

// again runs this program in a new network namespace and returns its exit code.
func again() int {
	runtime.LockOSThread() // the child gets its signal when this thread ends
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.ExitCode()
	case err != nil:
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	return 0
}

// network gives the namespace a loopback, an address and a default route.
func network() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "e2e0"}}
	if err := netlink.LinkAdd(bridge); err != nil {
		return err
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(HostAddress), Mask: net.CIDRMask(24, 32)}}
	if err := netlink.AddrAdd(bridge, addr); err != nil {
		return err
	}
	// A bridge has a carrier, and so a usable route, once a link of it is up.
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "e2e1", MasterIndex: bridge.Attrs().Index}, PeerName: "e2e2"}
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	for _, name := range []string{"e2e0", "e2e1", "e2e2"} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: bridge.Attrs().Index, Gw: net.ParseIP("198.19.255.2")})
}
