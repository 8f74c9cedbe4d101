package iptables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	goiptables "github.com/coreos/go-iptables/iptables"

	"skiff/proxy/nfacct"
	"skiff/proxy/state"
)

// jump is a rule of a built-in chain that leads into one of ours.
type jump struct {
	table, from, to string
	// rule is the match before -j.
	rule []string
}

// in tells whether a line of iptables -S is a jump to the same chain.
func (j jump) in(line string) bool { return strings.HasSuffix(line, " -j "+j.to) }

func jumps() []jump {
	comment := func(text string, match ...string) []string {
		return append(match, "-m", "comment", "--comment", text)
	}
	isNew := []string{"-m", "conntrack", "--ctstate", "NEW"}
	portals := "kubernetes service portals"
	return []jump{
		{"filter", "INPUT", chainExternal, comment("kubernetes externally-visible service portals", isNew...)},
		{"filter", "FORWARD", chainExternal, comment("kubernetes externally-visible service portals", isNew...)},
		{"filter", "INPUT", chainNodePorts, comment("kubernetes health check service ports")},
		{"filter", "FORWARD", chainServices, comment(portals, isNew...)},
		{"filter", "OUTPUT", chainServices, comment(portals, isNew...)},
		{"filter", "FORWARD", chainForward, comment("kubernetes forwarding rules")},
		{"filter", "INPUT", chainFirewall, comment("kubernetes load balancer firewall", isNew...)},
		{"filter", "OUTPUT", chainFirewall, comment("kubernetes load balancer firewall", isNew...)},
		{"filter", "FORWARD", chainFirewall, comment("kubernetes load balancer firewall", isNew...)},
		{"filter", "INPUT", chainLocalhost, nil},
		{"filter", "OUTPUT", chainLocalhost, nil},
		{"nat", "OUTPUT", chainServices, comment(portals)},
		{"nat", "PREROUTING", chainServices, comment(portals)},
		{"nat", "POSTROUTING", chainPostrouting, comment("kubernetes postrouting rules")},
	}
}

// Writer keeps one family's rules in the kernel. It is for one goroutine.
type Writer struct {
	cfg     Config
	ipt     *goiptables.IPTables
	restore string
	// written is nil when what the kernel has is not known.
	written *Written
	based   bool
	// last is how many rules the last write had, by table.
	last map[string]int
}

// NewWriter finds the iptables programs.
func NewWriter(cfg Config) (*Writer, error) {
	if cfg.MasqueradeBit < 0 || cfg.MasqueradeBit > 31 {
		return nil, fmt.Errorf("iptables masquerade bit %d: want 0 to 31", cfg.MasqueradeBit)
	}
	protocol, restore := goiptables.ProtocolIPv4, "iptables-restore"
	if cfg.IPv6 {
		protocol, restore = goiptables.ProtocolIPv6, "ip6tables-restore"
	}
	path, err := exec.LookPath(restore)
	if err != nil {
		return nil, fmt.Errorf("%s not found: install the package iptables: %w", restore, err)
	}
	ipt, err := goiptables.New(goiptables.IPFamily(protocol), goiptables.Timeout(5))
	if err != nil {
		return nil, fmt.Errorf("iptables: %w", err)
	}
	return &Writer{cfg: cfg, ipt: ipt, restore: path}, nil
}

// Sync brings the kernel to the table. After an error, and when full is set, it
// writes everything again and takes over what an earlier process left.
func (w *Writer) Sync(ctx context.Context, t *state.Table, full bool) error {
	if w.written == nil {
		full = true
		if err := w.adopt(); err != nil {
			return err
		}
	}
	if full || !w.based {
		if err := w.base(); err != nil {
			return err
		}
		w.based = true
		w.cfg.Counted = w.countable()
	}
	inputs, next := Rules(&w.cfg, t, *w.written, full)
	for _, input := range inputs {
		if err := restore(ctx, w.restore, input); err != nil {
			w.written, w.based = nil, false
			return err
		}
	}
	w.written, w.last = &next, count(inputs)
	return nil
}

// count counts the rules of inputs by table.
func count(inputs [][]byte) map[string]int {
	out := map[string]int{"filter": 0, "nat": 0}
	table := ""
	for _, input := range inputs {
		for line := range bytes.Lines(input) {
			switch {
			case line[0] == '*':
				table = string(bytes.TrimSpace(line[1:]))
			case bytes.HasPrefix(line, []byte("-A ")):
				out[table]++
			}
		}
	}
	return out
}

// Counts are how many rules there are, and how many the last write had, by table.
func (w *Writer) Counts() (total, last map[string]int) {
	if w.written == nil {
		return nil, nil
	}
	// What all nodes have is the input for no Service.
	inputs, _ := Rules(&w.cfg, state.NewTable(), Written{}, true)
	total = count(inputs)
	for _, f := range w.written.ports {
		total["filter"] += strings.Count(f.filter, "\n")
		total["nat"] += strings.Count(f.nat, "\n") + f.rules
	}
	return total, w.last
}

// filled are the chains that have rules whatever the Services are.
func filled() []struct{ table, chain string } {
	return []struct{ table, chain string }{
		{"nat", chainServices}, {"nat", chainPostrouting}, {"nat", chainMarkMasq}, {"filter", chainForward},
	}
}

// Intact tells whether the rules are still there: another program may have
// flushed them all. The canary chain has no other use; a flush that leaves
// chains takes the jumps, and one of a chain all that is in it.
func (w *Writer) Intact() (bool, error) {
	if !w.based {
		return false, nil
	}
	for _, table := range []string{"filter", "nat"} {
		ok, err := w.ipt.ChainExists(table, chainCanary)
		if err != nil || !ok {
			return ok, err
		}
	}
	for _, j := range jumps() {
		if j.from != "PREROUTING" && j.to != chainForward {
			continue
		}
		// iptables -C reads every chain of the table, and this one only.
		lines, err := w.ipt.List(j.table, j.from)
		if err != nil {
			return false, err
		}
		if !slices.ContainsFunc(lines, j.in) {
			return false, nil
		}
	}
	for _, f := range filled() {
		lines, err := w.ipt.List(f.table, f.chain)
		var told *goiptables.Error
		switch {
		case errors.As(err, &told) && told.IsNotExist():
			return false, nil
		case err != nil:
			return false, err
		case len(lines) < 2: // the first is the chain itself
			return false, nil
		}
	}
	return true, nil
}

// base makes the chains and jumps that the rules hang on.
func (w *Writer) base() error {
	for _, table := range []string{"filter", "nat"} {
		have, err := w.ipt.ListChains(table)
		if err != nil {
			return fmt.Errorf("list the chains of table %s: %w", table, err)
		}
		known := map[string]bool{}
		for _, c := range have {
			known[c] = true
		}
		chains := []string{chainCanary}
		for _, j := range jumps() {
			if j.table == table {
				chains = append(chains, j.to)
			}
		}
		for _, c := range chains {
			if known[c] {
				continue
			}
			known[c] = true
			if err := w.ipt.NewChain(table, c); err != nil {
				return fmt.Errorf("make chain %s: %w", c, err)
			}
		}
	}
	for _, j := range jumps() {
		rule := append(slices.Clone(j.rule), "-j", j.to)
		ok, err := w.ipt.Exists(j.table, j.from, rule...)
		if err != nil {
			return fmt.Errorf("look for the jump from %s to %s: %w", j.from, j.to, err)
		}
		if ok {
			continue
		}
		if err := w.ipt.Insert(j.table, j.from, 1, rule...); err != nil {
			return fmt.Errorf("jump from %s to %s: %w", j.from, j.to, err)
		}
	}
	return nil
}

// countable makes the counters of packets, and tells whether rules can count into
// them: that needs a module of the kernel and one of iptables.
func (w *Writer) countable() bool {
	names := w.cfg.Counters()
	for _, name := range names {
		if nfacct.Ensure(name) != nil {
			return false
		}
	}
	if len(names) == 0 {
		return false
	}
	try := []string{"-m", "nfacct", "--nfacct-name", names[0]}
	return w.ipt.AppendUnique("filter", chainCanary, try...) == nil && w.ipt.DeleteIfExists("filter", chainCanary, try...) == nil
}

// adopt learns the chains that an earlier process left, so that those without
// use are removed and connections through the others go on.
func (w *Writer) adopt() error {
	chains, err := w.ipt.ListChains("nat")
	if err != nil {
		return fmt.Errorf("list the chains of table nat: %w", err)
	}
	w.written = &Written{chains: map[string]uint64{}}
	for _, c := range chains {
		for _, prefix := range dynamicPrefixes() {
			if strings.HasPrefix(c, prefix) {
				w.written.chains[c] = 0
			}
		}
	}
	return nil
}

func restore(ctx context.Context, program string, input []byte) error {
	cmd := exec.CommandContext(ctx, program, "-w", "5", "--noflush", "--counters")
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%s: %w: %s", program, err, explain(input, string(bytes.TrimSpace(out))))
}

// explain adds the line that iptables-restore complained of.
func explain(input []byte, message string) string {
	var n int
	if i := strings.Index(message, "line "); i >= 0 {
		if _, err := fmt.Sscanf(message[i:], "line %d", &n); err == nil {
			lines := bytes.Split(input, []byte("\n"))
			if n > 0 && n <= len(lines) {
				return message + ": " + string(lines[n-1])
			}
		}
	}
	return message
}

// Clean removes every rule and chain that the proxy ever made, of both
// families where the programs are there.
func Clean() error {
	var errs []error
	for protocol, restore := range map[goiptables.Protocol]string{goiptables.ProtocolIPv4: "iptables-restore", goiptables.ProtocolIPv6: "ip6tables-restore"} {
		ipt, err := goiptables.New(goiptables.IPFamily(protocol), goiptables.Timeout(5))
		if err != nil {
			continue
		}
		errs = append(errs, clean(ipt, restore))
	}
	if errors.Join(errs...) == nil {
		errs = append(errs, nfacct.Delete(CountInvalid), nfacct.Delete(CountLocalhost))
	}
	return errors.Join(errs...)
}

func clean(ipt *goiptables.IPTables, program string) error {
	var errs []error
	for _, j := range jumps() {
		rule := append(slices.Clone(j.rule), "-j", j.to)
		if err := ipt.DeleteIfExists(j.table, j.from, rule...); err != nil && !missing(err) {
			errs = append(errs, err)
		}
	}
	for _, table := range []string{"filter", "nat"} {
		chains, err := ipt.ListChains(table)
		if err != nil {
			continue
		}
		var ours []string
		for _, c := range chains {
			if owned(c) {
				ours = append(ours, c)
			}
		}
		errs = append(errs, remove(program, table, ours))
	}
	return errors.Join(errs...)
}

// remove empties and removes chains, those that lead to others first: a chain can
// go when no other jumps to it.
func remove(program, table string, names []string) error {
	rank := func(name string) int {
		if name == chainMarkMasq {
			return len(dynamicPrefixes())
		}
		return slices.IndexFunc(dynamicPrefixes(), func(prefix string) bool { return strings.HasPrefix(name, prefix) })
	}
	slices.SortStableFunc(names, func(a, b string) int { return rank(a) - rank(b) })
	for some := range slices.Chunk(names, chainsAtOnce) {
		var input strings.Builder
		fmt.Fprintf(&input, "*%s\n", table)
		for _, n := range some {
			fmt.Fprintf(&input, ":%s - [0:0]\n", n)
		}
		for _, n := range some {
			fmt.Fprintf(&input, "-X %s\n", n)
		}
		input.WriteString("COMMIT\n")
		if err := restore(context.Background(), program, []byte(input.String())); err != nil {
			return err
		}
	}
	return nil
}

func owned(chain string) bool {
	switch chain {
	case chainServices, chainExternal, chainNodePorts, chainForward, chainFirewall, chainPostrouting, chainMarkMasq, chainLocalhost, chainCanary:
		return true
	}
	for _, prefix := range dynamicPrefixes() {
		if strings.HasPrefix(chain, prefix) {
			return true
		}
	}
	return false
}

func missing(err error) bool {
	var e *goiptables.Error
	return errors.As(err, &e) && e.IsNotExist()
}
