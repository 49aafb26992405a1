package redis

import (
	"context"

	"github.com/gomodule/redigo/redis"

	"github.com/trove-dbaas/trove/engine"
)

// For tests.
var (
	ParameterRules = parameterRules
	Forbidden      = forbidden
	PasswordHash   = passwordHash
)

// Ask runs a command as the agent's account and returns its answer as texts.
func (e *Engine) Ask(ctx context.Context, l engine.Layout, command string, args ...any) (texts []string, err error) {
	err = e.at(l).with(ctx, func(c conn) error {
		reply, err := c.do(ctx, command, args...)
		if text, textErr := redis.String(reply, err); textErr == nil {
			texts = []string{text}
			return nil
		}
		texts, err = redis.Strings(reply, err)
		return err
	})
	return texts, err
}

// UsersFile is where the server keeps its users.
func (e *Engine) UsersFile(l engine.Layout) string { return e.at(l).usersFile() }

// RuntimeDir is the driver's directory in the tmpfs.
func (e *Engine) RuntimeDir(l engine.Layout) string { return e.at(l).runtime() }

// DataDir is the data directory.
func (e *Engine) DataDir(l engine.Layout) string { return e.at(l).dataDir() }
