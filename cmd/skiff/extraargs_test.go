package main

import (
	"log/slog"
	"testing"

	"skiff/cluster/config"
)

func TestExtraArgs(t *testing.T) {
	got, err := extraArgs([]config.Arg{
		{Name: "audit-policy-file", Value: "/p"}, {Name: "enable-admission-plugins", Value: "A,B"},
		{Name: "max-requests-inflight", Value: "7"}, {Name: "no-such-flag", Value: "x"},
	}, slog.New(slog.DiscardHandler))
	if err != nil || got.auditPolicy != "/p" || len(got.enable) != 2 || got.inflight != 7 {
		t.Errorf("extraArgs: %+v, %v", got, err)
	}
	if _, err := extraArgs([]config.Arg{{Name: "max-requests-inflight", Value: "many"}}, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a number that is none is taken")
	}
}
