package cri

import (
	"fmt"
	"os"
	"path/filepath"
)

// reachable tells why the users of a pod with a user namespace, who are nobody to the
// machine, could not come to a folder: each that leads there must let all users pass.
func reachable(dir string) error {
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return err
		}
		if mode := info.Mode().Perm(); mode&0o001 == 0 {
			return fmt.Errorf("a pod with a user namespace cannot reach its files in %s: %s has the mode %04o, which lets no other users pass; chmod o+x %s, or keep the node's files elsewhere", dir, at, mode, at)
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}
