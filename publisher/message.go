package publisher

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/fastsync/fastsync"
)

// MaxMessage is the longest message in bytes that the relay reads.
const MaxMessage = 8 << 10

// Message is what a CMS publishes, once read: paths, and what to say of them.
type Message struct {
	Paths []string
	Ref   string
	Scope fastsync.Scope
	// Refused says of each path that cannot be used why.
	Refused []error
}

// ParseMessage reads a message of the channel: a bare path, absolute below
// root or relative to it, or a JSON object with path or paths, ref and scope.
// Good paths of a message stand beside the refused ones; an error means that
// nothing of it can be used.
func ParseMessage(root, text string) (Message, error) {
	switch {
	case text == "":
		return Message{}, errors.New("the message is empty")
	case len(text) > MaxMessage:
		return Message{}, fmt.Errorf("the message has %d bytes, at most %d are read", len(text), MaxMessage)
	case strings.HasPrefix(text, "{"):
		return parseJSON(root, text)
	}
	p, err := Relative(root, text)
	if err != nil {
		return Message{}, err
	}
	return Message{Paths: []string{p}}, nil
}

func parseJSON(root, text string) (Message, error) {
	if !utf8.ValidString(text) {
		return Message{}, errors.New("the JSON is not UTF-8: publish such a name as a bare path")
	}
	var raw struct {
		Path  string         `json:"path"`
		Paths []string       `json:"paths"`
		Ref   string         `json:"ref"`
		Scope fastsync.Scope `json:"scope"`
	}
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	if err := d.Decode(&raw); err != nil {
		return Message{}, fmt.Errorf("read the JSON: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return Message{}, errors.New("there is something after the JSON object")
	}
	m := Message{Ref: raw.Ref, Scope: raw.Scope}
	switch m.Scope {
	case "", fastsync.Entry, fastsync.Listing, fastsync.Tree:
	default:
		return Message{}, fmt.Errorf("unknown scope %q: want entry, listing or tree", cut(string(m.Scope)))
	}
	if raw.Path != "" {
		raw.Paths = append(raw.Paths, raw.Path)
	}
	if len(raw.Paths) == 0 {
		return Message{}, errors.New(`the JSON has neither "path" nor "paths"`)
	}
	for _, p := range raw.Paths {
		rel, err := Relative(root, p)
		if err != nil {
			m.Refused = append(m.Refused, err)
			continue
		}
		m.Paths = append(m.Paths, rel)
	}
	return m, nil
}

// few joins errors to one of bounded length.
func few(faults []error) error {
	const most = 3
	if len(faults) <= most {
		return errors.Join(faults...)
	}
	return fmt.Errorf("%w\nand %d more", errors.Join(faults[:most]...), len(faults)-most)
}

// cut bounds what is shown of a text that came from outside.
func cut(text string) string {
	const most = 200
	if len(text) <= most {
		return text
	}
	end := most
	for end > most-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// Relative turns a path as a CMS writes it into one below the root. One
// trailing slash of a directory is taken off; nothing else is mended.
func Relative(root, p string) (string, error) {
	rel := p
	if filepath.IsAbs(p) {
		if p == root || p == root+"/" {
			return fastsync.Root, nil
		}
		below, ok := strings.CutPrefix(p, strings.TrimSuffix(root, "/")+"/")
		if !ok {
			return "", fmt.Errorf("path %q is not below the root %q: %w", cut(p), root, fastsync.ErrPath)
		}
		rel = below
	}
	rel = strings.TrimSuffix(rel, "/")
	if err := fastsync.CheckPath(rel); err != nil {
		return "", fmt.Errorf("path %q: %w", cut(p), err)
	}
	return rel, nil
}
