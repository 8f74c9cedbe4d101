package sqlite

import (
	"context"
	"database/sql"
	"strings"
)

// bulkRows are how many rows the statements of a bulk take: a statement for many
// rows costs little more than one for a single row.
var bulkRows = [...]int{32, 8, 1}

// bulk inserts rows, many with each statement.
type bulk struct {
	columns int
	stmts   [len(bulkRows)]*sql.Stmt
}

// newBulk prepares the statements: head, a group of parameters for each row, tail.
func newBulk(ctx context.Context, db *sql.DB, head string, columns int, tail string) (b bulk, err error) {
	b.columns = columns
	row := "(?" + strings.Repeat(",?", columns-1) + ")"
	for i, n := range bulkRows {
		if b.stmts[i], err = db.PrepareContext(ctx, head+row+strings.Repeat(","+row, n-1)+tail); err != nil {
			return b, err
		}
	}
	return b, nil
}

// exec inserts rows whose columns follow each other in args.
func (b *bulk) exec(ctx context.Context, tx *sql.Tx, args []any) error {
	for i, n := range bulkRows {
		if len(args) < n*b.columns {
			continue
		}
		stmt := tx.StmtContext(ctx, b.stmts[i])
		for len(args) >= n*b.columns {
			if _, err := stmt.ExecContext(ctx, args[:n*b.columns]...); err != nil {
				return err
			}
			args = args[n*b.columns:]
		}
	}
	return nil
}
