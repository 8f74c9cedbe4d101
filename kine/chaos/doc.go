// Package chaos has the tests in which whole processes and file systems fail: a
// server that is killed at every point of its work or paused, a disk that forgets
// what was not synced, a clock that jumps, members of etcd that die.
package chaos
