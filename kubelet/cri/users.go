package cri

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// account is a line of /etc/passwd.
type account struct {
	name     string
	uid, gid int64
	home     string
}

const maxAccountLines = 100_000

// resolveUser finds out whom a container runs as: what the pod says, else what
// the image says, looked up in the image's own files.
func resolveUser(root, imageUser string, sc *runtimeapi.LinuxContainerSecurityContext) (*user, *account, error) {
	who, group := "", ""
	switch {
	case sc.GetRunAsUser() != nil:
		who = strconv.FormatInt(sc.RunAsUser.Value, 10)
	case sc.GetRunAsUsername() != "":
		who = sc.RunAsUsername
	default:
		who, group, _ = strings.Cut(imageUser, ":")
	}
	if sc.GetRunAsGroup() != nil {
		if sc.GetRunAsUser() == nil && sc.GetRunAsUsername() == "" && imageUser == "" {
			return nil, nil, invalid("run_as_group is set without a user")
		}
		group = strconv.FormatInt(sc.RunAsGroup.Value, 10)
	}
	acc, err := lookupAccount(root, who)
	if err != nil {
		return nil, nil, err
	}
	u := &user{UID: acc.uid, GID: acc.gid}
	if group != "" {
		if u.GID, err = lookupGroup(root, group); err != nil {
			return nil, nil, err
		}
	}
	if sc.GetSupplementalGroupsPolicy() == runtimeapi.SupplementalGroupsPolicy_Merge && acc.name != "" {
		groups, err := groupsOf(root, acc.name)
		if err != nil {
			return nil, nil, err
		}
		u.Groups = groups
	}
	// The primary group is one of the process's groups, as login does it.
	for _, g := range append([]int64{u.GID}, sc.GetSupplementalGroups()...) {
		if !slices.Contains(u.Groups, g) {
			u.Groups = append(u.Groups, g)
		}
	}
	slices.Sort(u.Groups)
	return u, acc, nil
}

func lookupAccount(root, who string) (*account, error) {
	if who == "" {
		who = "0"
	}
	id, numeric := parseID(who)
	var found *account
	err := eachLine(root, "etc/passwd", func(f []string) bool {
		if len(f) < 6 {
			return true
		}
		uid, ok1 := parseID(f[2])
		gid, ok2 := parseID(f[3])
		if !ok1 || !ok2 || (numeric && uid != id) || (!numeric && f[0] != who) {
			return true
		}
		found = &account{name: f[0], uid: uid, gid: gid, home: f[5]}
		return false
	})
	if err != nil {
		return nil, err
	}
	switch {
	case found != nil:
		return found, nil
	case numeric:
		return &account{uid: id}, nil
	}
	return nil, fmt.Errorf("unable to find user %s: no matching entries in passwd file", who)
}

func lookupGroup(root, group string) (int64, error) {
	if id, ok := parseID(group); ok {
		return id, nil
	}
	found := int64(-1)
	err := eachLine(root, "etc/group", func(f []string) bool {
		if len(f) < 3 || f[0] != group {
			return true
		}
		if id, ok := parseID(f[2]); ok {
			found = id
		}
		return found < 0
	})
	if err != nil {
		return 0, err
	}
	if found < 0 {
		return 0, fmt.Errorf("unable to find group %s: no matching entries in group file", group)
	}
	return found, nil
}

func groupsOf(root, name string) ([]int64, error) {
	var out []int64
	err := eachLine(root, "etc/group", func(f []string) bool {
		if len(f) < 4 || !slices.Contains(strings.Split(f[3], ","), name) {
			return true
		}
		if id, ok := parseID(f[2]); ok && !slices.Contains(out, id) {
			out = append(out, id)
		}
		return true
	})
	return out, err
}

func parseID(s string) (int64, bool) {
	n, err := strconv.ParseUint(s, 10, 31)
	return int64(n), err == nil
}

// eachLine reads a file of colon-separated fields; a missing file has no lines.
func eachLine(root, name string, do func(fields []string) bool) error {
	f, err := openIn(root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("image's /%s: %w", name, err)
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for n := 0; s.Scan() && n < maxAccountLines; n++ {
		line := strings.TrimSpace(s.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if !do(strings.Split(line, ":")) {
			return nil
		}
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("image's /%s: %w", name, err)
	}
	return nil
}
