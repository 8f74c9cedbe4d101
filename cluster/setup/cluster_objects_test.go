package setup

import "testing"

// Every node that joins may read the store's address: no password is in it.
func TestRedactURL(t *testing.T) {
	for _, c := range []struct{ name, url, want string }{
		{"password", "postgres://u:p@a/db", "postgres://u@a/db"},
		{"password with an at sign", "postgres://u:p@q@a/db", "postgres://u@a/db"},
		{"several hosts", "postgres://u:p@a:1,b:2/db?sslmode=require", "postgres://u@a:1,b:2/db?sslmode=require"},
		{"several IPv6 hosts", "postgres://u:p@[::1]:1,[::2]:2/db", "postgres://u@[::1]:1,[::2]:2/db"},
		{"parameters", "postgres://u@a/db?password=p&sslmode=require&sslpassword=q", "postgres://u@a/db?sslmode=require"},
		{"an escaped parameter", "postgres://u@a/db?p%61ssword=p", "postgres://u@a/db"},
		{"no path", "postgres://u:p@a?user=u", "postgres://u@a?user=u"},
		{"nobody", "https://a:2379", "https://a:2379"},
		{"a file", "sqlite:///var/lib/skiff/store/state.db", "sqlite:///var/lib/skiff/store/state.db"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := redactURL(c.url); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}
