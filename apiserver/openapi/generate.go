package openapi

//go:generate go run ./gen -markers markers_generated.go -enums enums_generated.go
