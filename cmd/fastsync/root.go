package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

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
			fmt.Fprintf(cmd.OutOrStdout(), "fastsync %s (%s)\n", ownVersion(), runtime.Version())
		},
	}
}

func ownVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && version == "" && info.Main.Version != "" {
		return info.Main.Version
	}
	if version == "" {
		return "(devel)"
	}
	return version
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
	zerolog.DurationFieldFormat = zerolog.DurationFormatString // with its unit; JSON has milliseconds
	return zerolog.New(out).With().Timestamp().Logger()
}
