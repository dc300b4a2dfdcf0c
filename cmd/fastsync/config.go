package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// config is every setting, by the name that its flag, its FASTSYNC_* variable
// and its key in the YAML file share. Flags win over the environment, which
// wins over the file.
type config struct {
	Source      string `yaml:"source"`
	Targets     list   `yaml:"target"`
	Name        string `yaml:"name"`
	Watch       string `yaml:"watch"`
	Redis       string `yaml:"redis"`
	RedisListen string `yaml:"redis-listen"`
	StateDir    string `yaml:"state-dir"`
	Channel     string `yaml:"channel"`
	Rsh         string `yaml:"rsh"`
	Warm        int    `yaml:"warm"`
	Confine     bool   `yaml:"confine"`
	Delete      bool   `yaml:"delete"`
	MaxDelete   int    `yaml:"max-delete"`
	Exclude     list   `yaml:"exclude"`
	SweepEvery  string `yaml:"sweep-every"` // text, so that its fault is told beside the others
	LogFormat   string `yaml:"log-format"`
	file        string
	wrong       map[string]string // flag → what was given for a whole number
}

// number is a flag for a whole number. What is none waits for the other faults:
// pflag's own would end at the first.
type number struct {
	name  string
	to    *int
	wrong map[string]string
}

// Set never fails; what is wrong is told with the rest.
func (n number) Set(text string) error {
	value, err := strconv.Atoi(text)
	if err != nil {
		n.wrong[n.name] = text
		return nil
	}
	delete(n.wrong, n.name)
	*n.to = value
	return nil
}

func (n number) String() string {
	if n.to == nil {
		return "0"
	}
	return strconv.Itoa(*n.to)
}

// Type is as the other flags of pflag's call it.
func (n number) Type() string { return "int" }

// list is a setting that may be given more than once; the file may give one
// value as it is.
type list []string

// UnmarshalYAML takes one value or a list of them.
func (l *list) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		*l = list{node.Value}
		return nil
	}
	return node.Decode((*[]string)(l))
}

// addFlags gives cmd every setting as a flag, with its default.
func (c *config) addFlags(f *pflag.FlagSet) {
	f.StringVar(&c.file, "config", "", "YAML `FILE` with any of these settings")
	f.StringVar(&c.Source, "source", "", "`DIR` whose changes are shipped, the root (a pull takes host:path or rsync://host/module/)")
	f.StringArrayVar((*[]string)(&c.Targets), "target", nil, "where to ship to, `[NAME=]DEST`: a folder, host:path or rsync://host/module/ (repeatable)")
	f.StringVar(&c.Watch, "watch", "auto", "how changes are noticed: auto, fsnotify, fanotify or off (only what the CMS publishes)")
	f.StringVar(&c.Rsh, "rsh", "", "the remote shell, as `COMMAND` for rsync (default ssh)")
	c.Warm, c.MaxDelete, c.wrong = 2, 1000, map[string]string{}
	whole := func(to *int, name, usage string) { f.Var(number{name, to, c.wrong}, name, usage) }
	whole(&c.Warm, "warm", "how many rsyncs are kept started for each target, logged in and waiting; 0 means that each batch logs in by itself")
	f.BoolVar(&c.Confine, "confine", true, "hold rsync to the root and the target by the kernel's Landlock, where it has that")
	f.BoolVar(&c.Delete, "delete", false, "delete at the target what is gone from the root")
	whole(&c.MaxDelete, "max-delete", "the most deletions a batch or sweep may make without an operator")
	f.StringArrayVar((*[]string)(&c.Exclude), "exclude", nil, "leave out what matches `PATTERN`, as rsync's (repeatable)")
	f.StringVar(&c.SweepEvery, "sweep-every", "1h", "`TIME` between full compares, as 90s, 15m or 1h; 0 means never")
	f.StringVar(&c.Channel, "channel", "new_files", "channel on which the CMS publishes paths")
	f.StringVar(&c.RedisListen, "redis-listen", "127.0.0.1:6379", "where the managed redis-server listens for the CMS; empty means only its socket")
	c.addRedisFlags(f)
}

// addRedisFlags gives cmd what it needs to find Redis and the root in it.
func (c *config) addRedisFlags(f *pflag.FlagSet) {
	f.StringVar(&c.Name, "name", "media", "name of the root in Redis")
	f.StringVar(&c.Redis, "redis", "", "`URL` of Redis: redis://, rediss:// or unix:// (unset: a managed redis-server; password by FASTSYNC_REDIS_PASSWORD or FASTSYNC_REDIS_PASSWORD_FILE)")
	f.StringVar(&c.StateDir, "state-dir", defaultStateDir(), "`DIR` of the managed redis-server")
	f.StringVar(&c.LogFormat, "log-format", "console", "console or json")
}

func defaultStateDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/fastsync"
	}
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "fastsync")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "fastsync-state"
	}
	return filepath.Join(home, ".local", "state", "fastsync")
}

// load completes c from the file and the environment for what no flag gave.
func (c *config) load(cmd *cobra.Command) error {
	flags := cmd.Flags()
	if !flags.Changed("config") {
		c.file = os.Getenv("FASTSYNC_CONFIG")
	}
	given := *c
	var faults []error
	if c.file != "" {
		faults = append(faults, c.readFile())
	}
	if flags.Changed("redis") && hasPassword(c.Redis) {
		faults = append(faults, fmt.Errorf("--redis %s: every user of this machine can read a password on the command line; give it by FASTSYNC_REDIS_PASSWORD or FASTSYNC_REDIS_PASSWORD_FILE", redacted(c.Redis)))
	}
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed {
			restore(c, &given, f.Name)
			return
		}
		key := "FASTSYNC_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := os.LookupEnv(key)
		if !ok || f.Name == "config" {
			return
		}
		for i, part := range envParts(f, value) {
			if i == 0 {
				restore(c, &config{}, f.Name)
			}
			err := f.Value.Set(part)
			if _, wrong := c.wrong[f.Name]; err != nil || wrong {
				delete(c.wrong, f.Name)
				faults = append(faults, fmt.Errorf("%s=%q is no %s", key, value, kindOf(f.Value.Type())))
			}
		}
	})
	for _, name := range slices.Sorted(maps.Keys(c.wrong)) {
		faults = append(faults, fmt.Errorf("--%s %q is no whole number", name, c.wrong[name]))
	}
	return errors.Join(faults...)
}

// envParts splits the variables of repeatable flags at line ends.
func envParts(f *pflag.Flag, value string) []string {
	if f.Value.Type() != "stringArray" {
		return []string{value}
	}
	return strings.FieldsFunc(value, func(r rune) bool { return r == '\n' })
}

// restore copies the field of one flag from given.
func restore(c, given *config, name string) {
	to, from := reflect.ValueOf(c).Elem(), reflect.ValueOf(given).Elem()
	for i := range to.NumField() {
		if to.Type().Field(i).Tag.Get("yaml") == name {
			to.Field(i).Set(from.Field(i))
		}
	}
}

var (
	unknownKey = regexp.MustCompile(`line (\d+): field (\S+) not found in type \S+`)
	badValue   = regexp.MustCompile("line (\\d+): cannot unmarshal \\S+ `(.*)` into (\\S+)")
	otherFault = regexp.MustCompile(`line (\d+): (.*)`)
)

// kindOf names a type of Go or of the flags for an operator.
func kindOf(name string) string {
	switch name {
	case "int":
		return "whole number"
	case "bool":
		return "true or false"
	case "duration":
		return "time; give one such as 90s, 15m or 1h"
	}
	return name
}

func (c *config) readFile() error {
	text, err := os.ReadFile(c.file)
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	err = d.Decode(c)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		if d.Decode(&yaml.Node{}) == nil {
			return fmt.Errorf("%s: there is a second document, which nobody would read: take out the line ---", c.file)
		}
		return nil
	}
	var lines []error
	for _, line := range strings.Split(err.Error(), "\n") {
		if m := unknownKey.FindStringSubmatch(line); m != nil {
			lines = append(lines, fmt.Errorf("%s:%s: unknown key %q; the nearest is %q", c.file, m[1], m[2], nearest(m[2])))
		} else if m := badValue.FindStringSubmatch(line); m != nil {
			lines = append(lines, fmt.Errorf("%s:%s: %s %q is no %s", c.file, m[1], keyAt(text, m[1]), m[2], kindOf(m[3])))
		} else if m := otherFault.FindStringSubmatch(line); m != nil {
			lines = append(lines, fmt.Errorf("%s:%s: %s", c.file, m[1], m[2]))
		} else if line = strings.TrimSpace(line); line != "" && line != "yaml: unmarshal errors:" {
			lines = append(lines, fmt.Errorf("%s: %s", c.file, line))
		}
	}
	return errors.Join(lines...)
}

// keyAt is the key in a line of the file.
func keyAt(text []byte, line string) string {
	n, err := strconv.Atoi(line)
	lines := strings.Split(string(text), "\n")
	if err != nil || n < 1 || n > len(lines) {
		return ""
	}
	key, _, _ := strings.Cut(lines[n-1], ":")
	return strings.TrimSpace(key)
}

func nearest(word string) string {
	best, least := "", 1<<30
	t := reflect.TypeFor[config]()
	for i := range t.NumField() {
		if key := t.Field(i).Tag.Get("yaml"); key != "" && distance(word, key) < least {
			best, least = key, distance(word, key)
		}
	}
	return best
}

// distance is the number of single-byte edits between a and b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := last
			if a[i] != b[j] {
				cost++
			}
			last, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, cost)
		}
	}
	return row[len(b)]
}

// sweepEvery reads --sweep-every.
func (c *config) sweepEvery() (time.Duration, error) {
	every, err := time.ParseDuration(c.SweepEvery)
	if err != nil || every < 0 {
		return 0, fmt.Errorf("--sweep-every %q is no time; give one such as 90s, 15m or 1h, or 0 for never", c.SweepEvery)
	}
	return every, nil
}
