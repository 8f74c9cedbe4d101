package iscsi

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Exit codes of iscsiadm.
const (
	sessionExists = 15
	noObjects     = 21
)

// command is one run of iscsiadm.
type command struct {
	args []string
	// fine are exit codes that are as good as 0; any is -1.
	fine []int
}

const anyCode = -1

// Keys of secrets; discovery has the same below another name.
const (
	sessionAuth     = "node.session.auth."
	discoveryAuth   = "discovery.sendtargets.auth."
	sessionUser     = sessionAuth + "username"
	sessionPassword = sessionAuth + "password"
)

func (t *target) node(portal string, rest ...string) []string {
	return append([]string{"-m", "node", "-p", portal, "-T", t.IQN, "-I", t.Interface}, rest...)
}

func (t *target) discoveryDB(portal string, rest ...string) []string {
	return append([]string{"-m", "discoverydb", "-t", "sendtargets", "-p", portal, "-I", t.Interface}, rest...)
}

// set changes a setting of a record.
func set(record []string, name, value string) command {
	return command{args: append(slices.Clone(record), "-o", "update", "-n", name, "-v", value)}
}

// chap are the settings of what a secret has below a prefix.
func chap(record []string, prefix string, secret map[string]string) []command {
	out := []command{set(record, prefix+"authmethod", "CHAP")}
	for _, name := range []string{"username", "password", "username_in", "password_in"} {
		if value := secret[prefix+name]; value != "" {
			out = append(out, set(record, prefix+name, value))
		}
	}
	return out
}

// discover asks a portal for its targets, which makes the records that login needs.
func (t *target) discover(portal string, secret map[string]string) []command {
	record := t.discoveryDB(portal)
	out := []command{{args: append(slices.Clone(record), "-o", "new")}}
	if t.DiscoveryCHAP {
		out = append(out, chap(record, discoveryAuth, secret)...)
	}
	return append(out, command{args: append(slices.Clone(record), "--discover")})
}

// login opens a session. Only the disk that is wanted is to appear, and nothing by
// itself when the node starts.
func (t *target) login(portal string, secret map[string]string) []command {
	record := t.node(portal)
	var out []command
	if t.SessionCHAP {
		out = append(out, chap(record, sessionAuth, secret)...)
	}
	scan := set(record, "node.session.scan", "manual")
	scan.fine = []int{anyCode} // an old iscsiadm shows all disks
	return append(out, scan, set(record, "node.startup", "manual"),
		command{args: append(slices.Clone(record), "--login"), fine: []int{sessionExists}})
}

// forgetDiscovery removes what discover has made.
func (t *target) forgetDiscovery(portal string) command {
	return command{args: t.discoveryDB(portal, "-o", "delete"), fine: []int{noObjects}}
}

// logout closes sessions, but for those of disks that stay, and removes the records,
// in which secrets are.
func (t *target) logout(others []target) []command {
	var out []command
	ownInterface := true
	for _, portal := range t.Portals {
		session, discovery := false, false
		for i := range others {
			o := &others[i]
			if o.Interface != t.Interface {
				continue
			}
			ownInterface = false
			if slices.Contains(o.Portals, portal) {
				discovery = true
				session = session || o.IQN == t.IQN
			}
		}
		if !session {
			out = append(out, command{args: t.node(portal, "--logout"), fine: []int{noObjects}},
				command{args: t.node(portal, "-o", "delete"), fine: []int{noObjects}})
		}
		if !discovery {
			out = append(out, t.forgetDiscovery(portal))
		}
	}
	if t.Initiator != "" && ownInterface {
		out = append(out, command{args: []string{"-m", "iface", "-I", t.Interface, "-o", "delete"}, fine: []int{noObjects}})
	}
	return out
}

// settings reads what `iscsiadm -m iface -o show` prints.
func settings(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(line, " = ")
		if value = strings.TrimSpace(value); ok && !strings.HasPrefix(line, "#") && value != "<empty>" {
			out[strings.TrimSpace(name)] = value
		}
	}
	return out
}

// newInterface makes an interface of its own with the settings of another.
func (t *target) newInterface(base map[string]string) []command {
	record := []string{"-m", "iface", "-I", t.Interface}
	out := []command{{args: append(slices.Clone(record), "-o", "new"), fine: []int{sessionExists}}}
	for _, name := range slices.Sorted(maps.Keys(base)) {
		if name != "iface.iscsi_ifacename" && name != "iface.initiatorname" {
			out = append(out, set(record, name, base[name]))
		}
	}
	return append(out, set(record, "iface.initiatorname", t.Initiator))
}

// byPath is how udev names a disk; other transports than TCP have more before it.
func (t *target) byPath(portal string) string {
	return fmt.Sprintf("ip-%s-iscsi-%s-lun-%d", strings.NewReplacer("[", "", "]", "").Replace(portal), t.IQN, t.LUN)
}
