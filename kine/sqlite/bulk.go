package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
)

// session has statements on the driver's own connection, where running one costs
// half of what it costs through database/sql.
type session struct{ stmts []driver.Stmt }

// prepare makes a statement that close closes.
func (s *session) prepare(ctx context.Context, on any, text string) (driver.StmtExecContext, error) {
	preparer, ok := on.(driver.ConnPrepareContext)
	if !ok {
		return nil, fmt.Errorf("connection of type %T: %w", on, errors.ErrUnsupported)
	}
	stmt, err := preparer.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	s.stmts = append(s.stmts, stmt)
	exec, ok := stmt.(driver.StmtExecContext)
	if !ok {
		return nil, fmt.Errorf("statement of type %T: %w", stmt, errors.ErrUnsupported)
	}
	return exec, nil
}

func (s *session) close() error {
	var errs []error
	for _, stmt := range s.stmts {
		errs = append(errs, stmt.Close())
	}
	s.stmts = nil
	return errors.Join(errs...)
}

// once runs a statement that is seldom needed.
func once(ctx context.Context, on any, text string, args ...any) error {
	exec, ok := on.(driver.ExecerContext)
	if !ok {
		return fmt.Errorf("connection of type %T: %w", on, errors.ErrUnsupported)
	}
	_, err := exec.ExecContext(ctx, text, named(args...))
	return err
}

// named are the arguments of a statement.
func named[T any](args ...T) []driver.NamedValue {
	out := make([]driver.NamedValue, len(args))
	for i, v := range args {
		out[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return out
}

// bulkRows are how many rows the statements of a bulk take: a statement for many
// rows costs little more than one for a single row.
var bulkRows = [...]int{64, 16, 8, 4, 2, 1}

// bulk inserts rows, many with each statement.
type bulk struct {
	columns int
	stmts   [len(bulkRows)]driver.StmtExecContext
	// args are the columns of the rows that wait for flush, one row after the other.
	args []driver.NamedValue
}

// bulk prepares the statements: head, a group of parameters for each row, tail.
func (s *session) bulk(ctx context.Context, on any, head string, columns int, tail string) (b bulk, err error) {
	b.columns = columns
	row := "(?" + strings.Repeat(",?", columns-1) + ")"
	for i, n := range bulkRows {
		if b.stmts[i], err = s.prepare(ctx, on, head+row+strings.Repeat(","+row, n-1)+tail); err != nil {
			return b, err
		}
	}
	return b, nil
}

// add appends a row.
func (b *bulk) add(columns ...driver.Value) {
	for _, v := range columns {
		b.args = append(b.args, driver.NamedValue{Value: v})
	}
}

// flush inserts the rows that were added.
func (b *bulk) flush(ctx context.Context) error {
	defer func() {
		clear(b.args) // the values are the callers'
		b.args = b.args[:0]
	}()
	args := b.args
	for i, n := range bulkRows {
		for n *= b.columns; len(args) >= n; args = args[n:] {
			for at := range n {
				args[at].Ordinal = at + 1
			}
			if _, err := b.stmts[i].ExecContext(ctx, args[:n]); err != nil {
				return err
			}
		}
	}
	return nil
}
