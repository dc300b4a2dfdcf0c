package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// version is set by the build; a build without it shows the module's own.
var version = ""

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "fastsync",
		Short:         "Ships changed media files to every host that shows them, loses none, and proves it",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          knownCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },

		SuggestionsMinimumDistance: 2,
		DisableFlagsInUseLine:      true,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
			return fmt.Errorf("--%s %q is no %s", bad.GetFlag().Name, bad.GetValue(), kindOf(bad.GetFlag().Value.Type()))
		}
		return fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())
	})
	root.AddCommand(newRun(), newAgent(), newSubscribe(), newPublish(), newSweep(), newStatus(), newDoctor(), newVersion())
	root.InitDefaultCompletionCmd()
	if completion, _, err := root.Find([]string{"completion"}); err == nil {
		for _, shell := range completion.Commands() {
			shell.Args = noArgs("fastsync completion " + shell.Name())
		}
		completion.Args = noArgs("fastsync completion bash, zsh or fish")
		completion.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	return root
}

// knownCommand refuses what is no subcommand, and names the nearest.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return fmt.Errorf("there is no command %q; did you mean fastsync %s?", args[0], near[0])
	}
	return fmt.Errorf("there is no command %q; fastsync --help names them", args[0])
}

// noArgs refuses arguments of a command that takes flags only, and says what to type.
func noArgs(usage string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return fmt.Errorf("%s does not take %q; type %s", cmd.CommandPath(), args[0], usage)
	}
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs("fastsync version"),
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
