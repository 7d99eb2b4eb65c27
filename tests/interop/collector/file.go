package main

import (
	"context"
	"errors"
	"os"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// fileConfig is the configuration of the exporter "file".
type fileConfig struct {
	// Path of the file: one OTLP JSON document a line. It is emptied at the start.
	Path string `mapstructure:"path"`
}

// Validate implements component.ConfigValidator.
func (c *fileConfig) Validate() error {
	if c.Path == "" {
		return errors.New("path must be set")
	}
	return nil
}

// fileSink appends what arrives to a file, line by line. Each signal has its own sink, and so its own file.
type fileSink struct {
	path string
	mu   sync.Mutex
	file *os.File
}

// Start implements component.Component.
func (s *fileSink) Start(context.Context, component.Host) error {
	file, err := os.Create(s.path)
	s.file = file
	return err
}

// Shutdown implements component.Component.
func (s *fileSink) Shutdown(context.Context) error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// Capabilities says that the data is only read.
func (s *fileSink) Capabilities() consumer.Capabilities {
	return consumer.Capabilities{}
}

// ConsumeMetrics returns once the batch is in the file, so the sender's acknowledgement means that it is.
func (s *fileSink) ConsumeMetrics(_ context.Context, batch pmetric.Metrics) error {
	return s.write((&pmetric.JSONMarshaler{}).MarshalMetrics(batch))
}

// ConsumeLogs does the same for logs.
func (s *fileSink) ConsumeLogs(_ context.Context, batch plog.Logs) error {
	return s.write((&plog.JSONMarshaler{}).MarshalLogs(batch))
}

func (s *fileSink) write(line []byte, err error) error {
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err = s.file.Write(append(line, '\n'))
	return err
}

func newFileFactory() exporter.Factory {
	sink := func(config component.Config) *fileSink {
		return &fileSink{path: config.(*fileConfig).Path}
	}
	return exporter.NewFactory(
		component.MustNewType("file"),
		func() component.Config { return &fileConfig{} },
		exporter.WithMetrics(func(_ context.Context, _ exporter.Settings, config component.Config) (exporter.Metrics, error) {
			return sink(config), nil
		}, component.StabilityLevelDevelopment),
		exporter.WithLogs(func(_ context.Context, _ exporter.Settings, config component.Config) (exporter.Logs, error) {
			return sink(config), nil
		}, component.StabilityLevelDevelopment),
	)
}
