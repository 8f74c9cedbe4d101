package main

import (
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
)

// enums are the lines of all enumerations: the names of those types that have
// the same values, then a line of each value. No prose.
func (p packages) enums() []string {
	types := map[string][]string{} // names, by values
	for _, s := range p {
		s.types(func(ts *ast.TypeSpec, doc *ast.CommentGroup) {
			if id, ok := ts.Type.(*ast.Ident); !ok || id.Name != "string" || tags(doc)["enum"] == nil {
				return
			}
			var lines []string
			for _, value := range p.values(s, ts.Name.Name) {
				lines = append(lines, "\t"+strconv.Quote(value))
			}
			if len(lines) > 0 {
				key := strings.Join(lines, "\n")
				types[key] = append(types[key], s.path+"."+ts.Name.Name)
			}
		})
	}
	var out []string
	for values, names := range types {
		slices.Sort(names)
		out = append(out, strings.Join(names, " ")+"\n"+values)
	}
	slices.Sort(out)
	return out
}

// values are the constants of a type, in order.
func (p packages) values(s source, name string) []string {
	var out []string
	for _, file := range s.files {
		for _, d := range file.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, spec := range g.Specs {
				vs := spec.(*ast.ValueSpec)
				for _, v := range vs.Values {
					if value, ok := p.constant(file, vs.Type, v, name); ok {
						out = append(out, value)
					}
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// constant is the value of an expression if its type is that of the name.
func (p packages) constant(file *ast.File, typ, value ast.Expr, name string) (string, bool) {
	if id, ok := typ.(*ast.Ident); ok && id.Name == name {
		return p.text(file, value)
	}
	if call, ok := value.(*ast.CallExpr); ok && typ == nil && len(call.Args) == 1 {
		if id, ok := call.Fun.(*ast.Ident); ok && id.Name == name {
			return p.text(file, call.Args[0])
		}
	}
	return "", false
}

// text is that of a literal, or of another package's constant.
func (p packages) text(file *ast.File, value ast.Expr) (string, bool) {
	switch v := value.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(v.Value)
		return s, err == nil
	case *ast.SelectorExpr:
		pkg, ok := v.X.(*ast.Ident)
		if !ok {
			return "", false
		}
		for _, im := range file.Imports {
			from, err := strconv.Unquote(im.Path.Value)
			if err != nil || (im.Name == nil || im.Name.Name != pkg.Name) && path.Base(from) != pkg.Name {
				continue
			}
			return p.named(from, v.Sel.Name)
		}
	}
	return "", false
}

func (p packages) named(from, name string) (string, bool) {
	for _, s := range p {
		if s.path != from {
			continue
		}
		consts := map[string]string{}
		for _, file := range s.files {
			for _, d := range file.Decls {
				if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.CONST {
					constants(g, consts)
				}
			}
		}
		text, err := strconv.Unquote(consts[name])
		return text, err == nil
	}
	return "", false
}
