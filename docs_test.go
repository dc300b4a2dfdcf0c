package fastsync_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// What an operator can read in the log at the levels of warnings and errors, and
// as a fault at the start, is in docs/TROUBLESHOOTING.md.
func TestEveryMessageIsInTroubleshooting(t *testing.T) {
	text, err := os.ReadFile("docs/TROUBLESHOOTING.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, dir := range []string{"cmd/fastsync", "publisher", "subscriber", "watcher", "rsyncer", "internal/redisserver"} {
		_ = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, message := range messages(file, dir == "cmd/fastsync") {
				found++
				if part := longest(message); !strings.Contains(string(text), part) {
					t.Errorf("%s: %q is not in docs/TROUBLESHOOTING.md", name, part)
				}
			}
			return nil
		})
	}
	if found < 50 {
		t.Errorf("only %d messages were found: what looks for them is wrong", found)
	}
}

// messages are the literals of log lines at the levels of warnings and errors,
// of the faults of a run, and with start those that fault() collects.
func messages(file *ast.File, start bool) (found []string) {
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		name := ""
		switch f := call.Fun.(type) {
		case *ast.SelectorExpr:
			name = f.Sel.Name
		case *ast.Ident:
			name = f.Name
		}
		arg := call.Args[0]
		switch {
		case name == "Msg" && loud(call):
		case name == "fault" && len(call.Args) == 3: // class, what, err
			arg = call.Args[1]
		case name == "fault" && start:
			if inner, ok := arg.(*ast.CallExpr); ok && len(inner.Args) > 0 {
				arg = inner.Args[0]
			}
		default:
			return true
		}
		found = append(found, literals(arg)...)
		return true
	})
	return found
}

// loud tells whether a chain that ends in Msg began with Warn or Error.
func loud(call *ast.CallExpr) bool {
	for {
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return false
		}
		if sel.Sel.Name == "Warn" || sel.Sel.Name == "Error" {
			return true
		}
		if call, ok = sel.X.(*ast.CallExpr); !ok {
			return false
		}
	}
}

func literals(e ast.Expr) (found []string) {
	ast.Inspect(e, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if text, err := strconv.Unquote(lit.Value); err == nil && len(text) > 12 {
				found = append(found, text)
			}
		}
		return true
	})
	return found
}

var verb = regexp.MustCompile(`%[a-z]`)

// longest is the longest part of a message that is the same each time, up to the
// words that say what to do.
func longest(message string) (best string) {
	for _, part := range verb.Split(message, -1) {
		if part, _, _ = strings.Cut(part, "; "); len(part) > len(best) {
			best = part
		}
	}
	if cause, _, ok := strings.Cut(best, ": "); ok && len(cause) > 20 {
		best = cause
	}
	return strings.TrimSpace(best)
}
