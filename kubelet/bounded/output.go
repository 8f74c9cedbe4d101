package bounded

import "context"

type outputKey struct{}

// WithOutput tells the runtime in this process how much of each stream of a
// command the caller will look at. One behind a socket does not hear it.
func WithOutput(ctx context.Context, limit int) context.Context {
	return context.WithValue(ctx, outputKey{}, limit)
}

// Output is what WithOutput told, and at most limit.
func Output(ctx context.Context, limit int) int {
	if told, ok := ctx.Value(outputKey{}).(int); ok {
		return min(told, limit)
	}
	return limit
}
