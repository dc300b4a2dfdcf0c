package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
)

// version is set by the build; a build without it shows the module's own.
var version = ""

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "fastsync",
		Short:         "Ships changed media files to every host that shows them, loses none, and proves it",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newRun(), newAgent(), newSubscribe(), newPublish(), newSweep(), newStatus(), newVersion())
	return root
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			v, goVersion := version, ""
			if info, ok := debug.ReadBuildInfo(); ok {
				goVersion = info.GoVersion
				if v == "" {
					v = info.Main.Version
				}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "fastsync %s (%s)\n", v, goVersion)
		},
	}
}

func newLogger(format string) zerolog.Logger {
	zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000Z07:00"
	zerolog.SetGlobalLevel(zerolog.InfoLevel)
	if os.Getenv("FASTSYNC_DEBUG") != "" {
		zerolog.SetGlobalLevel(zerolog.DebugLevel)
	}
	if format == "json" {
		return zerolog.New(os.Stderr).With().Timestamp().Logger()
	}
	out := zerolog.ConsoleWriter{Out: os.Stderr, TimeFormat: "15:04:05.000", NoColor: !isTerminal(os.Stderr)}
	zerolog.DurationFieldUnit = time.Millisecond
	return zerolog.New(out).With().Timestamp().Logger()
}
