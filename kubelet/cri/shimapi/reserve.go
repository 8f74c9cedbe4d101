package shimapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// reservedSize is the room that Reserve keeps.
const reservedSize = 4 << 10

func reserved(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"-reserved")
}

// Full tells whether an error says that the disk has no blocks or inodes left.
func Full(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// Reserve keeps room for a small file that has to be written also when the disk
// is full by then: an inode, and the blocks of its content.
func Reserve(path string) error {
	if err := os.WriteFile(reserved(path), make([]byte, reservedSize), 0o600); err != nil {
		return fmt.Errorf("reserve room for %s: %w", path, err)
	}
	return nil
}

// WriteReserved is WriteJSON, for which on a full disk the room that Reserve has
// kept is used.
func WriteReserved(path string, v any) error {
	err := WriteJSON(path, v)
	if err == nil || !Full(err) {
		return err
	}
	data, jerr := json.Marshal(v)
	if jerr != nil || len(data) > reservedSize {
		return err
	}
	f, rerr := os.OpenFile(reserved(path), os.O_WRONLY, 0)
	if rerr != nil {
		return err
	}
	_, rerr = f.Write(data)
	if rerr == nil {
		rerr = f.Truncate(int64(len(data)))
	}
	if rerr == nil {
		rerr = f.Sync()
	}
	if cerr := f.Close(); rerr == nil {
		rerr = cerr
	}
	if rerr == nil {
		rerr = os.Rename(reserved(path), path)
	}
	if rerr != nil {
		return errors.Join(err, fmt.Errorf("write %s into the room kept for it: %w", path, rerr))
	}
	return nil
}
