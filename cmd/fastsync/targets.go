package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/fastsync/fastsync"
	"github.com/fastsync/fastsync/rsyncer"
)

// target is one --target, taken apart.
type target struct{ Name, Dest string }

// fault is what is wrong with a target beside others of some names.
func (t target) fault(seen map[string]bool) error {
	module, _ := strings.CutPrefix(t.Dest, "rsync://")
	switch {
	case t.Dest == "":
		return errors.New("no destination; give [NAME=]DEST")
	case strings.HasPrefix(t.Dest, "-") && !rsyncer.Local(t.Dest):
		return errors.New("the name of a host must not start with \"-\"; correct it")
	case strings.HasPrefix(t.Dest, "-"):
		return fmt.Errorf("a destination must not start with \"-\"; write ./%s for such a folder", t.Dest)
	case t.Dest != module && strings.Trim(module[strings.IndexByte(module+"/", '/'):], "/") == "":
		return errors.New("the module is missing; give rsync://host/module/")
	case t.Name == "":
		return errors.New("no name can be made of it; give one, NAME=DEST")
	case seen[t.Name]:
		return fmt.Errorf("another target is called %q too; give each a name of its own, NAME=DEST", t.Name)
	}
	return nil
}

// targets takes the --target values apart and returns the good ones; all faults
// are told at once.
func (c *config) targets() ([]target, error) {
	var list []target
	var faults []error
	seen := map[string]bool{}
	for _, text := range c.Targets {
		t := target{Dest: text}
		if name, dest, ok := strings.Cut(text, "="); ok && fastsync.GoodName(name) {
			t = target{name, dest}
		} else {
			t.Name = nameOf(text)
		}
		if err := t.fault(seen); err != nil {
			faults = append(faults, fmt.Errorf("--target %q: %w", text, err))
		} else {
			list = append(list, t)
		}
		seen[t.Name] = true
	}
	if len(c.Targets) == 0 {
		faults = append(faults, errors.New("--target is missing: say where to ship to, a folder, host:path or rsync://host/module/"))
	}
	return list, errors.Join(faults...)
}

// nameOf makes a target's name of its destination.
func nameOf(dest string) string {
	dest = strings.TrimPrefix(dest, "rsync://")
	if host, _, ok := strings.Cut(dest, ":"); ok && !strings.Contains(host, "/") {
		dest = host
	} else if !strings.Contains(dest, "//") && strings.HasPrefix(dest, "/") {
		dest = filepath.Base(dest)
	}
	name := strings.Map(func(r rune) rune {
		if fastsync.GoodName(string(r)) {
			return r
		}
		return '-'
	}, dest)
	return strings.Trim(name[:min(len(name), 64)], "-.")
}
