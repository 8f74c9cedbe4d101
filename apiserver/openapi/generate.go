package openapi

//go:generate go run ./gen -out markers_generated.go
