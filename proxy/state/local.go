package state

import (
	"net/netip"
	"strings"
)

// Local tells what this node's pods send, or the cluster's, from what comes from
// elsewhere. The zero value knows no pod.
type Local struct {
	// Ranges are their source addresses, of one family.
	Ranges []netip.Prefix
	// Link is the link that their packets come in by; where AllLike is set the names
	// of their links begin so.
	Link    string
	AllLike bool
}

// Known tells whether pods can be told apart at all.
func (l Local) Known() bool { return len(l.Ranges) > 0 || l.Link != "" }

// NFTables are the matches of what pods send, and of what they do not; ip is the
// family. Both are empty where nothing is known.
func (l Local) NFTables(ip string) (pods, others string) {
	switch {
	case l.Link != "":
		name := l.Link
		if l.AllLike {
			name += "*"
		}
		return `iifname "` + name + `"`, `iifname != "` + name + `"`
	case len(l.Ranges) > 0:
		texts := make([]string, len(l.Ranges))
		for i, r := range l.Ranges {
			texts[i] = r.Masked().String()
		}
		set := "{ " + strings.Join(texts, ", ") + " }"
		return ip + " saddr " + set, ip + " saddr != " + set
	}
	return "", ""
}

// IPTables are the matches of what pods send, each for a rule of its own, and the
// one of what they do not, which is empty where one rule cannot tell.
func (l Local) IPTables() (pods []string, others string) {
	if l.Link != "" {
		name := l.Link
		if l.AllLike {
			name += "+"
		}
		return []string{"-i " + name}, "! -i " + name
	}
	for _, r := range l.Ranges {
		pods = append(pods, "-s "+r.String())
	}
	if len(pods) == 1 {
		others = "! " + pods[0]
	}
	return pods, others
}
