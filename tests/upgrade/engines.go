package main

import (
	"database/sql"
	"net"
	"time"

	"github.com/go-sql-driver/mysql"
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
