package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/internal/keyfile"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

// storePassword is the name of the store's password among the credentials that systemd hands over.
const storePassword = "store-password"

// storeFile is where SQLite keeps the state.
func (s StateDir) storeFile() string { return s.Path("store.db") }

// storeConfig returns where the state is. Nothing is connected to.
func storeConfig(cfg config.Config) (sqlstore.Config, error) {
	s := StateDir(cfg.State)
	if cfg.Store.URL == "" {
		return sqlstore.Config{Path: s.storeFile()}, nil
	}
	server, err := sqlstore.ParseURL(cfg.Store.URL)
	if err != nil {
		return sqlstore.Config{}, fmt.Errorf("store.url: %w", err)
	}
	err = server.UseTLS(sqlstore.TLSFiles{Mode: cfg.Store.TLS, CA: cfg.Store.TLSCA, Cert: cfg.Store.TLSCert, Key: cfg.Store.TLSKey})
	if err != nil {
		return sqlstore.Config{}, err
	}
	server.Conns, server.Patience = cfg.Store.Connections, cfg.Store.Wait
	path := cfg.Store.PasswordFile
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); path == "" && dir != "" && exists(filepath.Join(dir, storePassword)) {
		path = filepath.Join(dir, storePassword)
	}
	if path != "" {
		server.Password = func() (trove.Secret, error) {
			data, err := keyfile.Load(path)
			return trove.Secret(strings.TrimRight(string(data), "\r\n")), err
		}
		if _, err := server.Password(); err != nil {
			return sqlstore.Config{}, fmt.Errorf("store.password_file: %w", err)
		}
	}
	return sqlstore.Config{Server: server}, nil
}

// openStore opens the state of a deployment, whether the service runs or not.
func openStore(ctx context.Context, cfg config.Config) (*sqlstore.Store, error) {
	c, err := storeConfig(cfg)
	if err != nil {
		return nil, err
	}
	return sqlstore.Open(ctx, c)
}

// oneStore refuses a state directory with a store of its own beside the server's: the service would run without the instances that it knows, and what it does
// not know is removed from the machine in time.
func oneStore(cfg config.Config) error {
	file := StateDir(cfg.State).storeFile()
	if cfg.Store.URL == "" || !exists(file) {
		return nil
	}
	return trove.Errorf(trove.KindConflict,
		"There is a store in %s, and store.url names another one. Move it there with `trove manage db import`, or out of the way if it is of no use any more.", file)
}

// SyncStore brings the schema of the store up to date and returns which it had.
func SyncStore(ctx context.Context, cfg config.Config) (sqlstore.Schema, error) {
	c, err := storeConfig(cfg)
	if err != nil {
		return sqlstore.Schema{}, err
	}
	return sqlstore.Migrate(ctx, c)
}

// StoreSchema returns which schema the store has and which this program knows.
func StoreSchema(ctx context.Context, cfg config.Config) (sqlstore.Schema, error) {
	c, err := storeConfig(cfg)
	if err != nil {
		return sqlstore.Schema{}, err
	}
	return sqlstore.SchemaOf(ctx, c)
}

// ImportStore moves the store of the state directory into the empty database of store.url, all of it or nothing, and puts its file aside. The service must
// not run. It returns how many rows there were.
func ImportStore(ctx context.Context, cfg config.Config) (rows int, err error) {
	c, err := storeConfig(cfg)
	if err != nil {
		return 0, err
	}
	s := StateDir(cfg.State)
	if c.Server == nil {
		return 0, trove.Errorf(trove.KindBadRequest, "Say with store.url which database the store of %s shall be moved to.", s)
	}
	if !exists(s.storeFile()) {
		return 0, trove.Errorf(trove.KindNotFound, "There is no store in %s.", s)
	}
	lock, err := s.Lock(ctx, AllComponents)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if rows, err = sqlstore.Import(ctx, c, s.storeFile()); err != nil {
		return 0, err
	}
	for _, end := range []string{"", "-wal", "-shm"} {
		if err := os.Rename(s.storeFile()+end, s.Path("store.db.imported"+end)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return rows, fmt.Errorf("put the imported store aside: %w", err)
		}
	}
	return rows, nil
}
