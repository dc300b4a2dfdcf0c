// Package confine starts programs that can open nothing but the files that they
// are meant for, whatever names they are given, by the kernel's Landlock.
//
// A program keeps its confinement for life and hands it to all that it starts.
// It is held back from opening, making and removing; to look at names and at
// what stat tells stays free to it, and so does the network.
package confine

import "errors"

// Files are the folders and files that a program may open, with all that is
// below them. What does not exist is left out.
type Files struct {
	Read  []string // and execute
	Write []string // and read, make, rename, remove
}

// ErrUnsupported is of a kernel without Landlock, or one that has it turned off.
var ErrUnsupported = errors.New("the kernel has no Landlock")
