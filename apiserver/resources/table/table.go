// Package table has what the columns and rows of many kinds share.
package table

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

const unknown = "<unknown>"

// Name is the first column of nearly every kind.
func Name() metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{
		Name: "Name", Type: "string", Format: "name",
		Description: metav1.ObjectMeta{}.SwaggerDoc()["name"],
	}
}

// Age is the column of the time since creation.
func Age() metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{
		Name: "Age", Type: "string",
		Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"],
	}
}

// CreatedAt is the column of kinds that print their creation time in full.
func CreatedAt() metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{
		Name: "Created At", Type: "date",
		Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"],
	}
}

// Text is a string column.
func Text(name, description string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: "string", Description: description}
}

// Reference is a column of names of other objects.
func Reference(name, description string) metav1.TableColumnDefinition {
	c := Text(name, description)
	c.Format = "name"
	return c
}

// Int is an integer column.
func Int(name, description string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: "integer", Description: description}
}

// Bool is a boolean column.
func Bool(name, description string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: "boolean", Description: description}
}

// Wide makes a column one that only -o wide shows.
func Wide(c metav1.TableColumnDefinition) metav1.TableColumnDefinition {
	c.Priority = 1
	return c
}

// Columns is a list of columns.
func Columns(c ...metav1.TableColumnDefinition) []metav1.TableColumnDefinition { return c }

// Since is the human form of the time since t.
func Since(t metav1.Time) string {
	if t.IsZero() {
		return unknown
	}
	return duration.HumanDuration(time.Since(t.Time))
}

// SinceMicro is Since for a MicroTime.
func SinceMicro(t metav1.MicroTime) string {
	if t.IsZero() {
		return unknown
	}
	return duration.HumanDuration(time.Since(t.Time))
}

// Created is the cell under CreatedAt.
func Created(t metav1.Time) string { return t.UTC().Format(time.RFC3339) }

// Containers returns the names and images of containers as two cells.
func Containers(containers []corev1.Container) (names, images string) {
	n, i := make([]string, len(containers)), make([]string, len(containers))
	for at := range containers {
		n[at], i[at] = containers[at].Name, containers[at].Image
	}
	return strings.Join(n, ","), strings.Join(i, ",")
}

// ContainersColumns are the wide columns that Containers fills.
func ContainersColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		Wide(Text("Containers", "Names of each container in the template.")),
		Wide(Text("Images", "Images referenced by each container in the template.")),
	}
}
