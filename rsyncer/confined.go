package rsyncer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fastsync/fastsync/internal/confine"
	"github.com/fastsync/fastsync/internal/readlock"
)

// system is what rsync, a shell and their libraries read of a host. None of it
// is secret, and of /etc as little as names of users and hosts need.
var system = []string{
	"/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib", "/nix/store", "/gnu/store",
	"/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf",
	"/etc/hosts", "/etc/host.conf", "/etc/resolv.conf", "/etc/gai.conf", "/etc/services", "/dev/urandom",
}

// confinement is whether rsyncs are confined, and read only what nobody writes,
// which is found out when the first one starts.
type confinement struct {
	once     sync.Once
	why      error // they are not; nil: they are
	unlocked error // they may read what is being written
	trusts   bool  // they need not check what the other side of a pull sends
}

// Unconfined says why the rsyncs of this host are not held to the root and the
// target by the kernel, nil where they are. The first call takes some 20 ms.
func (r *Rsyncer) Unconfined() error {
	r.confinement.once.Do(func() {
		if r.confinement.why = r.confinable(); r.confinement.why != nil && !r.cfg.Unconfined {
			r.cfg.Log.Warn().Err(r.confinement.why).Msg("rsync is not confined: a symlink that appears while it reads may lead it out of the root")
		}
		if r.confinement.unlocked = r.lockable(); r.confinement.unlocked != nil && r.confinement.why == nil {
			r.cfg.Log.Warn().Err(r.confinement.unlocked).Msg("rsync is not kept from files that are opened for writing while it reads: a target may show such a file torn until its writer is done")
		}
	})
	return r.confinement.why
}

func (r *Rsyncer) confinable() error {
	if r.cfg.Unconfined {
		return errors.New("turned off by --confine=false")
	}
	version, err := confine.Version()
	if err != nil {
		return err
	}
	if version < 2 && !remote(r.target) {
		return errors.New("the kernel's Landlock keeps files from moving between directories, as rsync does: Linux 5.19 and later let them")
	}
	if isScript(r.rsync) {
		return fmt.Errorf("%s is a script, which may need any file: put rsync itself there", r.rsync)
	}
	if err := r.tryConfined(); err != nil {
		return err
	}
	if r.escorts() {
		if err := tryTaking(); err != nil {
			return err
		}
	}
	r.confinement.trusts = r.pull && r.tryConfined(trustSender) == nil
	return nil
}

// trustSender turns off a check of rsync's, since 3.2.5, that what comes was asked
// for. It takes names such as "a\\[b" for patterns and ends the whole run over them.
const trustSender = "--trust-sender"

// trusts tells whether a pull does without that check: the kernel holds it to the
// target's folder anyway.
func (r *Rsyncer) trusts() bool { return r.Unconfined() == nil && r.confinement.trusts }

func isScript(name string) bool {
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	start := make([]byte, 2)
	n, _ := f.Read(start)
	return bytes.Equal(start[:n], []byte("#!"))
}

// tryConfined lets a confined rsync copy a file, with some options.
func (r *Rsyncer) tryConfined(options ...string) error {
	return r.trial(func(cmd *exec.Cmd, files confine.Files, _ string) error {
		cmd.Args = slices.Insert(cmd.Args, 1, options...)
		said, err := output(cmd, func() error { return confine.Start(cmd, files) })
		if err != nil {
			return fmt.Errorf("%s does not run under Landlock: %w: %s", r.rsync, err, said)
		}
		return nil
	})
}

// trial prepares an rsync that copies one file in a temporary folder.
func (r *Rsyncer) trial(do func(cmd *exec.Cmd, files confine.Files, file string) error) error {
	dir, err := tempDir("try")
	if err != nil {
		return fmt.Errorf("try a confined rsync: %w", err)
	}
	defer os.RemoveAll(dir)
	dir = resolve(dir)
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	file := filepath.Join(from, "file")
	if err := errors.Join(os.Mkdir(from, 0o700), os.Mkdir(to, 0o700), os.WriteFile(file, nil, 0o600)); err != nil {
		return fmt.Errorf("try a confined rsync: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.rsync, "-a", "--", from+"/", to+"/")
	cmd.Env = environment()
	files := r.program()
	files.Read, files.Write = append(files.Read, from), append(files.Write, to)
	return do(cmd, files, file)
}

// output starts a command and waits for its end.
func output(cmd *exec.Cmd, start func() error) (string, error) {
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err := start()
	if err == nil {
		err = cmd.Wait()
	}
	return strings.TrimSpace(said.String()), err
}

// program is what a confined rsync needs wherever it copies from and to.
func (r *Rsyncer) program() confine.Files {
	files := confine.Files{Read: append(slices.Clone(system), r.rsync), Write: []string{"/dev/null"}}
	for _, name := range []string{"sh", "cat"} { // of the remote shells' nearer ends
		if full, err := exec.LookPath(name); err == nil {
			files.Read = append(files.Read, full)
		}
	}
	return files
}

// startConfined starts an rsync that can open the root and the target alone, if
// the kernel can see to that, and under a lock that the caller serves, if it can
// see to that too.
func (r *Rsyncer) startConfined(cmd *exec.Cmd) (lock *readlock.Lock, err error) {
	if r.Unconfined() != nil {
		return nil, cmd.Start()
	}
	files := r.program()
	if !r.pull {
		files.Read = append(files.Read, r.source)
	}
	switch {
	case remote(r.target):
	case slices.Contains(cmd.Args, "-n"): // another run may make it meanwhile
		files.Read = append(files.Read, existing(r.target))
	default:
		// Only what exists can be allowed, so that it is not left to --mkpath.
		if err := os.MkdirAll(r.target, 0o777); err != nil {
			return nil, noTarget{err}
		}
		files.Write = append(files.Write, r.target)
	}
	if r.pull || r.Unlocked() != nil {
		return nil, confine.Start(cmd, files)
	}
	err = confine.Start(cmd, files, func() (err error) {
		lock, err = readlock.Install(resolve(r.source))
		return err
	})
	if err != nil && lock != nil {
		lock.Close()
		lock.Serve(readlock.Told{})
	}
	return lock, err
}

// existing is a folder, or the nearest one above it that is there.
func existing(folder string) string {
	for at := filepath.Clean(folder); ; at = filepath.Dir(at) {
		if _, err := os.Stat(at); err == nil || at == "/" {
			return at
		}
	}
}

// noTarget is why a local target's folder cannot be made.
type noTarget struct{ error }

func (e noTarget) Unwrap() error { return e.error }
