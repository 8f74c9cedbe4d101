package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	maxQueried   = 4
	maxUnitName  = 256
	maxTail      = 100000
	queryTimeout = 30 * time.Second
	journalTime  = "2006-01-02 15:04:05"
)

var notInUnits = regexp.MustCompile(`[^a-zA-Z\-_0-9@]`)

// logQuery is what a request asks of the node's logs beside a path: the logs of
// services, or one file.
type logQuery struct {
	services, files []string
	// flags narrow down what the journal shows.
	flags []string
	// refused is what can be read and is not answered.
	refused field.ErrorList
}

// parseLogQuery returns nil where nothing is queried.
func parseLogQuery(values url.Values) (*logQuery, field.ErrorList) {
	var (
		q    logQuery
		errs field.ErrorList
	)
	for _, name := range values["query"] {
		switch {
		case strings.ContainsAny(name, `/\`):
			q.files = append(q.files, strings.ReplaceAll(name, `\`, "/"))
		case strings.TrimSpace(name) != "":
			q.services = append(q.services, name)
		}
	}
	query := field.NewPath("query")
	if values.Has("query") && len(q.files)+len(q.services) == 0 {
		errs = append(errs, field.Invalid(query, values["query"], "query cannot be empty"))
	}
	// format reads a value, and refuse says what is wrong with it all the same.
	option := func(name, flag string, format func(string) (value, refuse string, err error)) {
		text := values.Get(name)
		if text == "" {
			return
		}
		value, refuse, err := format(text)
		if err != nil {
			errs = append(errs, field.Invalid(field.NewPath(name), text, err.Error()))
		}
		if refuse != "" {
			var shown any = text
			if n, err := strconv.Atoi(text); err == nil {
				shown = n
			}
			q.refused = append(q.refused, field.Invalid(field.NewPath(name), shown, refuse))
		}
		q.flags = append(q.flags, flag+value)
	}
	var since, until time.Time
	moment := func(at *time.Time) func(string) (string, string, error) {
		return func(text string) (value, refuse string, err error) {
			if *at, err = time.Parse(time.RFC3339, text); err != nil {
				return "", "", errors.New("invalid time format")
			}
			if !since.IsZero() && !until.IsZero() && since.After(until) {
				refuse = "must be after `sinceTime`"
			}
			return at.UTC().Format(journalTime), refuse, nil
		}
	}
	option("sinceTime", "--since=", moment(&since))
	option("untilTime", "--until=", moment(&until))
	option("boot", "--boot=", func(text string) (value, refuse string, err error) {
		n, err := strconv.Atoi(text)
		if n > 0 {
			refuse = "must be less than 1"
		}
		return strconv.Itoa(n), refuse, err
	})
	option("tailLines", "--lines=", func(text string) (value, refuse string, err error) {
		n, err := strconv.Atoi(text)
		return strconv.Itoa(n), strings.Join(validation.IsInRange(n, 0, maxTail), ", "), err
	})
	option("pattern", "--grep=", func(text string) (value, refuse string, err error) {
		if _, err := syntax.Parse(text, syntax.Perl); err != nil {
			refuse = err.Error()
		}
		return text, refuse, nil
	})
	if len(errs) > 0 || len(q.files)+len(q.services)+len(q.flags) == 0 {
		return nil, errs
	}
	q.refused = append(q.names(query), q.refused...)
	return &q, nil
}

// names says what is wrong with what is queried.
func (q *logQuery) names(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, s := range q.services {
		if len(s) > maxUnitName {
			errs = append(errs, field.Invalid(path, s, fmt.Sprintf("length must be less than %d", maxUnitName)))
		}
		if notInUnits.MatchString(s) {
			errs = append(errs, field.Invalid(path, s, "input contains unsupported characters"))
		}
	}
	if len(q.services) > maxQueried {
		errs = append(errs, field.TooMany(path, len(q.services), maxQueried))
	}
	switch {
	case len(q.files)+len(q.services) == 0:
		errs = append(errs, field.Required(path, "cannot be empty with options"))
	case len(q.files) > 0 && len(q.services) > 0:
		errs = append(errs, field.Invalid(path, fmt.Sprintf("%v, %v", q.files, q.services), "cannot specify a file and service"))
	case len(q.files) > 1:
		errs = append(errs, field.Invalid(path, q.files, "cannot specify more than one file"))
	case len(q.files) == 1 && len(q.flags) > 0:
		errs = append(errs, field.Invalid(path, q.files, "cannot specify file with options"))
	}
	return errs
}

// serveServices writes what the services log: the journal's where it knows
// their units, else the file of that name in the folder of logs.
func (q *logQuery) serveServices(ctx context.Context, w http.ResponseWriter, logs *os.Root) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	w.Header().Set("Content-Type", "text/plain;charset=UTF-8")
	// A node without a journal has no units.
	units, _ := exec.CommandContext(ctx, "journalctl", "--field", "_SYSTEMD_UNIT").Output()
	known := map[string]bool{}
	for unit := range strings.Lines(string(units)) {
		known[strings.TrimSpace(unit)] = true
	}
	var files []string
	journal := append([]string{"--utc", "--no-pager", "--output=short-precise"}, q.flags...)
	for _, s := range q.services {
		if known[s+".service"] {
			journal = append(journal, "--unit="+s)
		} else {
			files = append(files, s)
		}
	}
	if len(files) < len(q.services) {
		cmd := exec.CommandContext(ctx, "journalctl", journal...)
		cmd.Stdout, cmd.Stderr = w, w
		if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
			_, _ = fmt.Fprint(w, "\nerror: journal output not available\n")
		}
	}
	if len(files) > 0 && len(q.flags) > 0 {
		_, _ = fmt.Fprintf(w, "\noptions present and query resolved to log files for %v\ntry without specifying options\n", files)
		return
	}
	for _, s := range files {
		switch err := copyLog(w, logs, s); {
		case errors.Is(err, fs.ErrNotExist):
			_, _ = fmt.Fprintf(w, "\nlog not found for %s\n", s)
		case err != nil:
			_, _ = fmt.Fprintf(w, "\nerror getting log for %s: %v\n", s, err)
		}
	}
}

// copyLog writes the first that there is of the files in which a service logs by
// custom. A pipe that a container planted would never end, so only regular files
// count.
func copyLog(w io.Writer, logs *os.Root, service string) error {
	var last error
	for _, name := range []string{service, service + ".log", service + "/" + service + ".log"} {
		info, err := logs.Stat(name)
		if err == nil && !info.Mode().IsRegular() {
			err = fs.ErrNotExist
		}
		if err == nil {
			var file *os.File
			if file, err = logs.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0); err == nil {
				_, err = io.Copy(w, file)
				return cmp.Or(err, file.Close())
			}
		}
		if last = err; !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return last
}
