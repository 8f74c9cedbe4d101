package policy

import (
	"context"
	"fmt"
	"os/exec"

	"sigs.k8s.io/knftables"
)

// Clean removes the table. Without the nft command there can be none.
func Clean(ctx context.Context) error {
	if _, err := exec.LookPath("nft"); err != nil {
		return nil
	}
	nft, err := knftables.New(knftables.InetFamily, Table)
	if err != nil {
		return nil // a kernel without nftables
	}
	tx := nft.NewTransaction()
	tx.Add(&knftables.Table{}) // so that there is one to delete
	tx.Delete(&knftables.Table{})
	if err := nft.Run(ctx, tx); err != nil {
		return fmt.Errorf("remove the nftables table %s: %w", Table, err)
	}
	return nil
}
