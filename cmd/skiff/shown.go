package main

import "github.com/spf13/pflag"

// classified marks a flag whose value may hold a secret.
const classified = "classified"

// shown are flags as /flagz gives them, without what is secret.
func shown(flags *pflag.FlagSet) map[string]string {
	out := map[string]string{}
	flags.VisitAll(func(f *pflag.Flag) {
		out[f.Name] = f.Value.String()
		if len(f.Annotations[classified]) > 0 {
			out[f.Name] = "CLASSIFIED"
		}
	})
	return out
}
