package mariadb

// PasswordHash is for the tests in package mariadb_test.
var PasswordHash = passwordHash
