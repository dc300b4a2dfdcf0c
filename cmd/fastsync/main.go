// Command fastsync ships a site's changed media files to every host that shows them.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer profile()()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50) // memory that others want, for processor time that is idle
	}
	if err := newRoot().ExecuteContext(ctx); err != nil {
		for _, line := range strings.Split(err.Error(), "\n") {
			fmt.Fprintln(os.Stderr, "fastsync: "+line)
		}
		return 1
	}
	return 0
}
