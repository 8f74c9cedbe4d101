// Package logging makes what every part logs with: lines of text, or JSON with the
// keys that Kubernetes' components use.
package logging

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"time"

	"k8s.io/klog/v2"
)

// libraries is the most that the libraries log: from 8 on client-go writes down
// what requests and answers say, and that has tokens and Secrets in it.
const libraries = 7

// Set makes the whole process log to w: what is written here, and what Kubernetes'
// libraries write.
func Set(w io.Writer, format string, verbosity int) error {
	h, err := Handler(w, format, verbosity)
	if err != nil {
		return err
	}
	slog.SetDefault(slog.New(h))
	most := min(verbosity, libraries)
	klog.SetSlogLogger(slog.New(from{h, slog.Level(-most)}))
	var f flag.FlagSet
	klog.InitFlags(&f)
	if err := f.Set("v", strconv.Itoa(most)); err != nil {
		return fmt.Errorf("--v=%d: %w", verbosity, err)
	}
	return nil
}

// Handler writes records of a format, text or json. Verbosity 0 is what an operator
// needs, and 4 has what is for debugging, which is slog's level -4.
func Handler(w io.Writer, format string, verbosity int) (slog.Handler, error) {
	o := &slog.HandlerOptions{Level: slog.Level(-max(verbosity, 0))}
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
			return slog.Int("v", -int(level))
		}
		return slog.Int("v", 0)
	}
	return a
}

// from is a handler that takes records from a level on.
type from struct {
	slog.Handler
	level slog.Level
}

func (f from) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= f.level && f.Handler.Enabled(ctx, l)
}

func (f from) WithAttrs(attrs []slog.Attr) slog.Handler {
	return from{f.Handler.WithAttrs(attrs), f.level}
}

func (f from) WithGroup(name string) slog.Handler { return from{f.Handler.WithGroup(name), f.level} }
