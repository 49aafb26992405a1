package main

import (
	"database/sql"
	"fmt"
	"net"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// engine is what the measurement says to one product; one more is one more entry.
type engine struct {
	open     func(address string) (*sql.DB, error)
	schema   []string
	fill     string // adds some tens of MiB
	size     string // bytes of the data, roughly
	checksum string // number of rows and a sum over them, in the order of the index on text
	version  string
	insert   string // with the number of the write
}

var engines = map[string]engine{
	"mariadb": {
		open: openMySQL,
		schema: []string{
			"CREATE TABLE t (a BIGINT PRIMARY KEY AUTO_INCREMENT, b VARCHAR(64) COLLATE utf8mb4_unicode_520_ci, filler VARCHAR(900) CHARACTER SET ascii, KEY (b))",
			"CREATE TABLE writes (n INT PRIMARY KEY)",
		},
		fill:     "INSERT INTO t (b, filler) SELECT CONCAT(ELT(1 + seq % 5, 'Zürich', 'ångström', 'Łódź', '東京', 'résumé'), seq, RAND()), REPEAT(MD5(RAND()), 28) FROM seq_1_to_20000",
		size:     "SELECT CAST(COALESCE(MAX(a), 0) * 1000 AS SIGNED) FROM t",
		checksum: "SELECT CONCAT(COUNT(*), '/', BIT_XOR(CRC32(CONCAT_WS('|', a, b, filler)))) FROM t FORCE INDEX (b)",
		version:  "SELECT @@version",
		insert:   "INSERT INTO writes VALUES (%d)",
	},
	"postgresql": {
		open: openPostgreSQL,
		schema: []string{
			`CREATE TABLE t (a BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, b TEXT COLLATE "und-x-icu", filler TEXT)`,
			"CREATE INDEX t_b ON t (b)",
			"CREATE TABLE writes (n INT PRIMARY KEY)",
		},
		// 28 hashes are not compressed away as one that is repeated would be.
		fill: `INSERT INTO t (b, filler) SELECT (ARRAY['Zürich', 'ångström', 'Łódź', '東京', 'résumé'])[1 + seq % 5] || seq || random(),
(SELECT string_agg(md5(random()::text || seq || n), '') FROM generate_series(1, 28) n) FROM generate_series(1, 20000) seq`,
		size: "SELECT pg_total_relation_size('t')",
		// The order of the index is part of the sum: rows in another order give another one.
		checksum: `SELECT count(*) || '/' || md5(string_agg(md5(concat_ws('|', a, b, filler)), '' ORDER BY b, a)) FROM t`,
		version:  "SHOW server_version",
		insert:   "INSERT INTO writes VALUES (%d)",
	},
}

func openPostgreSQL(address string) (*sql.DB, error) {
	c, err := pgx.ParseConfig(fmt.Sprintf("host=%s user=app dbname=app sslmode=require connect_timeout=1", address))
	if err != nil {
		return nil, err
	}
	c.Password = password
	return stdlib.OpenDB(*c), nil
}

func openMySQL(address string) (*sql.DB, error) {
	c := mysql.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr, c.DBName, c.TLSConfig = "app", password, "tcp", net.JoinHostPort(address, "3306"), "app", "skip-verify"
	c.Timeout = time.Second
	c.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}
