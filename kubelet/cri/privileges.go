package cri

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// privileges are what this process has, and so what it can give to containers:
// a machine may keep some from its own root.
type privileges struct {
	// capabilities are names without CAP_.
	capabilities []string
	// lowestOOMScore is the smallest out-of-memory adjustment it may set.
	lowestOOMScore int
}

func findPrivileges() (privileges, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return privileges{}, err
	}
	score, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return privileges{}, err
	}
	return privilegesOf(string(status), string(score))
}

// privilegesOf reads them from the texts of /proc/self/status and oom_score_adj.
func privilegesOf(status, score string) (privileges, error) {
	p := privileges{lowestOOMScore: -1000}
	lines := bufio.NewScanner(strings.NewReader(status))
	for lines.Scan() {
		field, ok := strings.CutPrefix(lines.Text(), "CapEff:")
		if !ok {
			continue
		}
		set, err := strconv.ParseUint(strings.TrimSpace(field), 16, 64)
		if err != nil {
			return privileges{}, fmt.Errorf("own capabilities %q: %w", field, err)
		}
		for number, name := range allCapabilities {
			if set&(1<<number) != 0 {
				p.capabilities = append(p.capabilities, name)
			}
		}
	}
	if slices.Contains(p.capabilities, "SYS_RESOURCE") {
		return p, nil
	}
	own, err := strconv.Atoi(strings.TrimSpace(score))
	if err != nil {
		return privileges{}, fmt.Errorf("own oom_score_adj %q: %w", score, err)
	}
	p.lowestOOMScore = own // the kernel lets it go no lower
	return p, nil
}
