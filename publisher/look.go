package publisher

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/fastsync/fastsync"
)

// Look finds what a path below source stands for: a parent that is a symbolic
// link is followed where that stays in the root, and refused where it leads out;
// a directory that came without a scope is a tree. A path that is not there
// stays as it is: it may have been deleted.
func Look(source, p string, scope fastsync.Scope) (string, fastsync.Scope, error) {
	root, err := os.OpenRoot(source)
	if err != nil {
		return "", "", fmt.Errorf("the root cannot be opened, so %q cannot be looked at: %w", cut(p), bare(err))
	}
	defer func() { _ = root.Close() }()
	if dir := path.Dir(p); dir != fastsync.Root {
		switch _, err := root.Stat(dir); {
		case errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
		case err != nil:
			return "", "", fmt.Errorf("the parent of %q cannot be reached inside the root: %w", cut(p), bare(err))
		default:
			if p, err = resolve(source, p); err != nil {
				return "", "", err
			}
		}
	}
	info, err := root.Lstat(p)
	switch {
	case errors.Is(err, syscall.ENAMETOOLONG):
		return "", "", fmt.Errorf("%q cannot be in the root: %w", cut(p), bare(err))
	case scope != "":
		return p, scope, nil
	case err == nil && info.IsDir():
		return p, fastsync.Tree, nil
	}
	return p, fastsync.Entry, nil
}

// resolve follows the links in the directory of p.
func resolve(source, p string) (string, error) {
	base, err := filepath.EvalSymlinks(source)
	if err != nil {
		return "", fmt.Errorf("look at the root: %w", err)
	}
	dir, err := filepath.EvalSymlinks(filepath.Join(source, path.Dir(p)))
	if err != nil {
		return "", fmt.Errorf("look at the parent of %q: %w", cut(p), bare(err))
	}
	below, ok := strings.CutPrefix(dir+"/", strings.TrimSuffix(base, "/")+"/")
	if !ok { // it was another link a moment ago
		return "", fmt.Errorf("the parent of %q leads out of the root: %w", cut(p), fastsync.ErrPath)
	}
	p = path.Join(below, path.Base(p))
	return p, fastsync.CheckPath(p)
}

// bare is an error without the path, which the message has already.
func bare(err error) error {
	if why := (*os.PathError)(nil); errors.As(err, &why) {
		return why.Err
	}
	return err
}
