// Command probe is what the runtime's tests run in containers.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Println("usage: probe COMMAND")
		os.Exit(2)
	}
	args := os.Args[2:]
	switch os.Args[1] {
	case "exit":
		code, _ := strconv.Atoi(args[0])
		os.Exit(code)
	case "echo":
		fmt.Println(strings.Join(args, " "))
	case "cat":
		for _, name := range args {
			data, err := os.ReadFile(name)
			check(err)
			os.Stdout.Write(data)
		}
	case "copy":
		_, err := io.Copy(os.Stdout, os.Stdin)
		check(err)
	case "id":
		groups, err := os.Getgroups()
		check(err)
		fmt.Println(os.Getuid(), os.Getgid(), groups)
	case "env":
		fmt.Println(os.Getenv(args[0]))
	case "write":
		check(os.WriteFile(args[0], []byte(args[1]), 0o644))
	case "stat":
		st, err := os.Stat(args[0])
		check(err)
		fmt.Println(st.Mode())
	case "sleep":
		wait(true)
	case "stubborn":
		wait(false)
	case "eat":
		fmt.Println("eating")
		var keep [][]byte
		for {
			b := make([]byte, 1<<20)
			for i := range b {
				b[i] = 1
			}
			keep = append(keep, b)
			_ = keep
		}
	case "unshare":
		check(syscall.Unshare(syscall.CLONE_NEWNS))
	case "serve":
		fmt.Println("serving")
		check(http.ListenAndServe(":"+args[0], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			host, _, _ := net.SplitHostPort(r.RemoteAddr)
			name, _ := os.Hostname()
			fmt.Fprintf(w, "%s from %s", name, host)
		})))
	case "get":
		c := http.Client{Timeout: 5 * time.Second}
		resp, err := c.Get(args[0])
		check(err)
		_, err = io.Copy(os.Stdout, resp.Body)
		check(err)
	default:
		fmt.Println("unknown command", os.Args[1])
		os.Exit(2)
	}
}

func wait(term bool) {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGTERM, syscall.SIGUSR1)
	fmt.Println("ready")
	for s := range ch {
		fmt.Println("got", s)
		if s == syscall.SIGTERM && term {
			os.Exit(0)
		}
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
