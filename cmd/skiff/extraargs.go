package main

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"skiff/cluster/config"
)

// extraArgs reads the API server's flags of a ClusterConfiguration. Those that
// skiff sets itself or does not have are named in the log and left out.
func extraArgs(args []config.Arg, log *slog.Logger) (apiserverFlags, error) {
	var o apiserverFlags
	for _, arg := range args {
		var err error
		switch arg.Name {
		case "audit-policy-file":
			o.auditPolicy = arg.Value
		case "audit-log-path":
			o.auditLog = arg.Value
		case "encryption-provider-config":
			o.encryption = arg.Value
		case "enable-admission-plugins":
			o.enable = strings.Split(arg.Value, ",")
		case "disable-admission-plugins":
			o.disable = strings.Split(arg.Value, ",")
		case "max-requests-inflight":
			o.inflight, err = strconv.Atoi(arg.Value)
		case "max-mutating-requests-inflight":
			o.mutating, err = strconv.Atoi(arg.Value)
		default:
			log.Warn("an extra argument of the API server is left out: skiff has no such setting", "name", arg.Name)
		}
		if err != nil {
			return o, fmt.Errorf("%s %q: want a number", arg.Name, arg.Value)
		}
	}
	return o, nil
}
