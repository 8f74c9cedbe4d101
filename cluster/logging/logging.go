// Package logging makes what every part logs with: lines of text, or JSON with the
// keys that Kubernetes' components use.
package logging

import (
	"fmt"
	"io"
	"log/slog"
	"time"
)

// debugging is the verbosity from which what is for debugging is logged.
const debugging = 4

// Handler writes records of a format, text or json. Verbosity 0 is what an operator
// needs.
func Handler(w io.Writer, format string, verbosity int) (slog.Handler, error) {
	o := &slog.HandlerOptions{Level: slog.LevelInfo}
	if verbosity >= debugging {
		o.Level = slog.LevelDebug
	}
	switch format {
	case "text":
		return slog.NewTextHandler(w, o), nil
	case "json":
		o.ReplaceAttr = kubernetes
		return slog.NewJSONHandler(w, o), nil
	}
	return nil, fmt.Errorf("--logging-format %q: want text or json", format)
}

// kubernetes names a record's own keys as its components do: ts in milliseconds, v
// for what is no error.
func kubernetes(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.TimeKey:
		return slog.Float64("ts", float64(a.Value.Time().UnixNano())/float64(time.Millisecond))
	case slog.LevelKey:
		switch level, _ := a.Value.Any().(slog.Level); {
		case level >= slog.LevelWarn:
			return slog.String("level", level.String())
		case level < slog.LevelInfo:
			return slog.Int("v", debugging)
		}
		return slog.Int("v", 0)
	}
	return a
}
